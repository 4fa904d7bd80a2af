"""A person's own proofs as points beside the paper's figures: one edit proven on two kinds of rows gives a point
of reward against risk."""

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass

import numpy as np

import viz
from app.state.runs import runs_of_adapter
from app.state.workspace import Workspace
from surgery.evaluation import Effect
from surgery.experiments import EDIT
from surgery.files import is_demo
from surgery.paper import CONSTRAINED, reward_and_risk
from surgery.runs import PROOF, Run

_MOST = 12


@dataclass(frozen=True)
class ProvenEdit:
    """Effects of one proof on a share of right answers; `edit` identifies the edit and how it was made."""

    edit: str
    policy: str
    adapter: str
    rows: str
    examples: int
    gain: Effect
    random_gain: Effect | None
    shipped: bool

    @property
    def label(self) -> str:
        return f"{self.policy}, {self.examples} examples of {self.rows}"

    @property
    def whose(self) -> str:
        """The word at its point in a figure."""
        return "shipped" if self.shipped else "yours"

    @property
    def other_task(self) -> bool:
        """Whether the rows are known to test another task than the adapter's: another demo's, or the paper's risk."""
        names = [source.partition("/")[0] for source in (self.adapter, self.rows)]
        return self.rows == CONSTRAINED.lower() or (all(map(is_demo, names)) and names[0] != names[1])


def proven_edits(workspace: Workspace) -> tuple[ProvenEdit, ...]:
    """The newest proofs of the open adapter that count right answers, the oldest of them first."""
    found = [_proven(run) for run in runs_of_adapter(workspace) if run.plan.purpose == PROOF]
    return tuple(reversed([run for run in found if run is not None][:_MOST]))


def signals(runs: Sequence[ProvenEdit]) -> list[viz.OwnRun]:
    """Points of Figure 3: the runs that had random controls."""
    return [
        viz.OwnRun(
            run.label,
            gain=100 * run.gain.mean,
            random_gain=100 * run.random_gain.mean,
            intervals={"gain": _points(run.gain), "random_gain": _points(run.random_gain)},
            whose=run.whose,
        )
        for run in runs
        if run.random_gain is not None
    ]


def trade_offs(runs: Sequence[ProvenEdit], other: Collection[str]) -> list[viz.OwnRun]:
    """Points of Figure 4: the edits proven on their own task and on rows named in `other`.

    An interval is drawn where one proof stands behind the number.
    """
    found = []
    for edit in dict.fromkeys(run.edit for run in runs):
        own = [run for run in runs if run.edit == edit and run.rows not in other]
        off = [run for run in runs if run.edit == edit and run.rows in other]
        if not own or not off:
            continue
        lost = float(np.mean([100 * run.gain.mean for run in off]))
        reward, risk = reward_and_risk([100 * run.gain.mean for run in own], lost)
        intervals = {}
        if len(own) == 1:
            intervals["reward"] = _points(own[0].gain)
        if len(off) == 1:
            low, high = _points(off[0].gain)
            intervals["risk"] = (max(0.0, -high), max(0.0, -low))
        label = f"{own[0].policy}, {own[0].rows} against {off[0].rows}"
        found.append(viz.OwnRun(label, reward=reward, risk=risk, intervals=intervals, whose=own[0].whose))
    return found


def _proven(run: Run) -> ProvenEdit | None:
    """What a run says of its edit; None for one that is unfinished, has no edit or counts no right answers."""
    plan, metrics = run.plan, run.metrics
    if metrics is None or EDIT not in plan.edits:
        return None
    shares = [metric.name for metric in metrics.summary.metrics if metric.binary]
    found = metrics.summary.variants.get(EDIT)
    gain = _known(found.changes.get(shares[0])) if found and shares else None
    if gain is None:
        return None
    return ProvenEdit(
        edit=plan.edit,
        policy=str(plan.edits[EDIT].get("policy")),
        adapter=plan.adapter,
        rows=plan.slice_name,
        examples=plan.examples,
        gain=gain,
        random_gain=_known(metrics.summary.random.get(shares[0])),
        shipped=run.shipped,
    )


def _known(effect: Effect | None) -> Effect | None:
    """The effect; None where a number of it is unknown."""
    return None if effect is None or np.isnan(astuple(effect)).any() else effect


def _points(effect: Effect) -> tuple[float, float]:
    return 100 * effect.low, 100 * effect.high
