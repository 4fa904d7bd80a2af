"""The proofs a person has made in this session, as points beside the paper's figures.

A workspace holds one proof at a time; the Paper page keeps the effects of each one that it sees, so
that one edit proven on two kinds of rows gives a point of reward against risk.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import streamlit as st

import viz
from app.workspace import Workspace
from surgery.demo import is_demo
from surgery.evaluate import Effect
from surgery.paper import random_gain, reward_and_risk
from surgery.recipe import dump_recipe
from surgery.run import EDIT

_KEY = "paper-runs"
_MOST = 12


@dataclass(frozen=True)
class KeptRun:
    """Effects of one proof on exact match, as shares; `edit` is the recipe, without its proof."""

    edit: str
    policy: str
    adapter: str
    calibrated_on: str
    rows: str
    examples: int
    gain: Effect
    random_gain: Effect | None

    @property
    def label(self) -> str:
        return f"{self.policy}, {self.examples} rows of {self.rows}"

    @property
    def other_task(self) -> bool:
        """Whether the rows are known to test another task than the calibration's: another demo's."""
        names = [source.partition("/")[0] for source in (self.calibrated_on, self.rows)]
        return all(map(is_demo, names)) and names[0] != names[1]


def remember(workspace: Workspace) -> Sequence[KeptRun]:
    """All runs of this session, the newest last, with the present proof among them if it has answers."""
    runs: dict[tuple[str, str], KeptRun] = st.session_state.setdefault(_KEY, {})
    run = _run(workspace)
    if run is not None:
        runs[run.edit, run.rows] = run
        for oldest in list(runs)[:-_MOST]:
            del runs[oldest]
    return tuple(runs.values())


def forget() -> None:
    st.session_state.pop(_KEY, None)


def signals(runs: Sequence[KeptRun]) -> list[viz.OwnRun]:
    """Points of Figure 3: the runs that had random controls."""
    return [
        viz.OwnRun(
            run.label,
            gain=100 * run.gain.mean,
            random_gain=100 * run.random_gain.mean,
            intervals={"gain": _points(run.gain), "random_gain": _points(run.random_gain)},
        )
        for run in runs
        if run.random_gain is not None
    ]


def trade_offs(runs: Sequence[KeptRun], other: Collection[str]) -> list[viz.OwnRun]:
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
        found.append(viz.OwnRun(label, reward=reward, risk=risk, intervals=intervals))
    return found


def _run(workspace: Workspace) -> KeptRun | None:
    proof, plan, recipe = workspace.proof, workspace.evaluation, workspace.recipe
    if proof is None or plan is None or recipe is None or EDIT not in proof.scores:
        return None
    gain = proof.effect(EDIT, "exact")
    if not np.isfinite([gain.mean, gain.low, gain.high]).all():
        return None
    return KeptRun(
        edit=dump_recipe(replace(recipe, evaluation=None)),
        policy=workspace.plan.policy.name,
        adapter=workspace.adapter.source,
        calibrated_on=recipe.calibration.data,
        rows=plan.data,
        examples=len(proof.examples),
        gain=gain,
        random_gain=random_gain(proof),
    )


def _points(effect: Effect) -> tuple[float, float]:
    return 100 * effect.low, 100 * effect.high
