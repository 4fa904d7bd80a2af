"""A search: proposals tried one after the other on rows kept for that, stopped, killed and taken up again.

An edit that was chosen by what it measured on some rows looks better on them than it is.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np

from surgery.data import Calibration
from surgery.edits import Edit
from surgery.errors import Cancelled, DataError, PolicyError
from surgery.evaluation import Effect, paired_effect
from surgery.experiments import TuningSetup
from surgery.experiments.search.folder import keep_about, search_key, unwritable
from surgery.experiments.search.front import BROKEN, MEASURED, REFUSED, STOPPED, Trial, front
from surgery.experiments.search.measuring import Judges, Numbers
from surgery.experiments.search.objectives import OWN, PROTECTED, Objective, kept_share
from surgery.experiments.search.plan import SearchPlan
from surgery.experiments.search.race import LEVEL, dominated, looks
from surgery.experiments.search.space import Room, room_of
from surgery.experiments.search.study import JOURNAL, Proposal, Study
from surgery.experiments.search.task_rows import TaskRows
from surgery.files import runs_folder
from surgery.progress import SILENT, Control
from surgery.runs import LOG, AnswerLog
from surgery.sensitivity import sigma_identity


def _nobody_asks(_: "Search") -> None:
    pass


@dataclass(frozen=True)
class SearchLimits:
    """Where a search ends: with so many trials, earlier ones counted, or with the one that runs after so many seconds."""

    trials: int = 20
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.trials < 1 or (self.seconds is not None and not self.seconds >= 0):
            raise PolicyError(
                f"a search of {self.trials} trials in {self.seconds} seconds cannot be made",
                "use 1 trial or more, and 0 seconds or more",
            )


@dataclass(frozen=True)
class Search:
    """What a search has found so far.

    key: the name of its folder.
    plan: what was searched.
    trials: all that were tried, in their order.
    rows: of each slice, by whose they are.
    """

    key: str
    plan: SearchPlan
    trials: tuple[Trial, ...]
    rows: Mapping[str, int]

    @property
    def front(self) -> tuple[Trial, ...]:
        """The trials that nothing dominates."""
        return front(self.trials, self.plan.asked)


def search(
    setup: TuningSetup,
    plan: SearchPlan,
    *,
    protected: Calibration | None = None,
    task: TaskRows | None = None,
    limits: SearchLimits = SearchLimits(),
    tell: Callable[[Search], None] = _nobody_asks,
    control: Control = SILENT,
) -> Search:
    """The trials of a search, from where an earlier one of the same plan was left.

    setup: the adapter in its running base model, its sensitivity and the rows to measure on, which are the plan's.
    plan: what is searched; its start is the first trial.
    protected: the plan's protected rows.
    task: the documents of the plan's task.
    limits: most trials and seconds.
    tell: called with all trials so far, at the beginning and after each.
    control: hears of rows, as many as all trials would take if none were stopped; its `resumed` hears of earlier ones.

    A setting that the policy refuses uses up a trial and is not measured; one that gives the same σ′ as an earlier
    trial has its numbers. A cancel ends the search at the next batch, the limit of seconds after the running trial,
    and what was found by then is returned: it raises no `Cancelled`, and one from `control.progress` is taken for a
    cancel. However it ends, even by a kill, the same search goes on from there, and finds what it would have found
    without the break.

    Raises `PolicyError` for a plan that cannot be applied and knobs that cannot be searched, before the model runs;
    `DataError` where there are no rows, the search is under way elsewhere, its files cannot be written or its study was
    damaged.
    """
    room = room_of(plan.start, plan.space, setup.live.spectra, setup.sensitivity)
    setup.apply(plan.start)
    slices = _slices(setup, plan, protected)
    if (task is None) != (plan.task is None):
        raise DataError("the plan has a task and its documents are not here", "load them with task_rows")
    key = search_key(plan, setup.live.adapter.digest, [*_context(setup, plan, slices), *_task_context(task)])
    folder = runs_folder() / key
    with AnswerLog(folder / LOG) as log:
        keep_about(folder, plan, setup.live.adapter.digest)
        try:
            study = Study(folder / JOURNAL, key, plan.asked, room, plan.seed)
            judges = Judges(setup.live, slices, plan.asked, log, setup.batch_size, task)
            trying = _Trying(setup, plan, room, judges, _Watch(limits, judges.rows, control))
            while len(study.trials) < limits.trials:
                tell(_so_far(key, plan, study, judges))
                if not trying.next(study):
                    break
        except OSError as error:
            raise unwritable(folder, error, 0) from error
    found = _so_far(key, plan, study, judges)
    tell(found)
    return found


def _so_far(key: str, plan: SearchPlan, study: Study, judges: Judges) -> Search:
    return Search(key, plan, tuple(study.trials), judges.sizes)


def _slices(setup: TuningSetup, plan: SearchPlan, protected: Calibration | None) -> dict[str, Calibration]:
    """The encoded rows that the plan's objectives ask for, by whose they are."""
    known = {OWN: setup.slice_, PROTECTED: protected}
    found = {}
    for whose in plan.slices:
        slice_ = known[whose]
        if slice_ is None or not slice_.examples:
            raise DataError(f"there are no {whose} rows to judge edits by", "name a file with rows")
        found[whose] = slice_
    return found


def _context(setup: TuningSetup, plan: SearchPlan, slices: Mapping[str, Calibration]) -> list[str]:
    """What the numbers of a search depend on besides its plan and its adapter."""
    live, measured = setup.live, setup.sensitivity
    parts = [
        live.base.fingerprint,
        str(next(live.model.parameters()).dtype),
        live.device.type,
        str(setup.batch_size),
    ]
    parts += [version(name) for name in ("torch", "transformers", "optuna")]
    parts += [slice_.digest for slice_ in slices.values()]
    if measured is not None and (plan.start.needs_sensitivity or "energy" in plan.space.parts):
        parts += [each.provenance.key for each in (measured, *measured.protected)]
    return parts


def _task_context(task: TaskRows | None) -> list[str]:
    """What the numbers of a task depend on."""
    return [] if task is None else [task.loaded.digest, *task.loaded.scoring, version("lm-eval")]


class _Watch:
    """Tells how far a search is, and when it is over: by the clock, or by a cancel in either of its forms."""

    def __init__(self, limits: SearchLimits, rows: int, control: Control) -> None:
        self._control, self._rows, self._total = control, rows, limits.trials * rows
        self._end = math.inf if limits.seconds is None else time.monotonic() + limits.seconds
        self._tried = False

    def begin(self, trials: int) -> bool:
        """Whether another trial is begun after so many."""
        if not self._tried and trials:
            self._control.resumed(trials * self._rows, self._total)
        over = self._control.cancelled() or (self._tried and time.monotonic() >= self._end)
        self._tried = True
        return not over

    def report(self, trials: int, rows: int) -> None:
        self._control.progress(trials * self._rows + rows, self._total)

    @property
    def control(self) -> Control:
        """What the model is run with; it hears of a cancel and of nothing else."""
        return Control(cancelled=self._control.cancelled)


@dataclass(frozen=True)
class _Trying:
    """Tries one proposal after the other."""

    setup: TuningSetup
    plan: SearchPlan
    room: Room
    judges: Judges
    watch: _Watch

    def next(self, study: Study) -> bool:
        """Try what the study proposes; False where the search is over, and a trial under way is then none."""
        try:
            if not self.watch.begin(len(study.trials)):
                return False
            proposal = study.ask()
            study.tell(proposal, self._tried(proposal, study.trials))
            self.watch.report(len(study.trials), 0)
        except Cancelled:  # jobs of the app cancel by raising, which would lose what was found
            return False
        return True

    def _tried(self, proposal: Proposal, before: Sequence[Trial]) -> Trial:
        try:
            # the plan given is tried as it stands, even where a value lies between two steps
            plan = self.room.plan_at(proposal.values) if proposal.number else self.plan.start
            edit = self.setup.apply(plan)
        except PolicyError:
            return Trial(proposal.number, None, REFUSED)
        sigma = sigma_identity(edit.sigma_after)
        same = next((trial for trial in before if trial.sigma == sigma), None)
        if same is not None:
            twin = same.number if same.same_as is None else same.same_as
            return replace(same, number=proposal.number, plan=plan, same_as=twin)
        return self._measured(Trial(proposal.number, plan, MEASURED, sigma=sigma), edit)

    def _measured(self, trial: Trial, edit: Edit) -> Trial:
        """The trial with what its edit changes, raced against the unedited adapter."""
        stops = looks(self.judges.rows)
        sizes = self._sizes(edit)
        found: Numbers = {}
        for begin, end in zip((0, *stops), stops, strict=False):
            part = self.judges.changes(edit.sigma_after, range(begin, end), self.watch.control)
            found = {name: np.concatenate([found.get(name, part[name][:0]), part[name]]) for name in part}
            self.watch.report(trial.number, end)
            if not all(np.isfinite(numbers).all() for numbers in found.values()):
                nothing = Effect(math.nan, math.nan, math.nan, math.nan)
                return replace(
                    trial, outcome=BROKEN, rows=end, effects=dict.fromkeys(self.plan.objectives, nothing)
                )
            level = LEVEL / (len(stops) - 1) if end < stops[-1] else 0.0
            if self.plan.race and level and dominated(self.plan.asked, found, sizes, level):
                return replace(trial, outcome=STOPPED, rows=end, effects=_effects(self.plan.asked, found, sizes))
        return replace(trial, rows=stops[-1], effects=_effects(self.plan.asked, found, sizes))

    def _sizes(self, edit: Edit) -> dict[str, float]:
        """Changes of the objectives that need no rows."""
        spectra = self.setup.live.spectra
        return {
            each.name: kept_share(spectra, edit) - kept_share(spectra, Edit({}))
            for each in self.plan.asked
            if each.rows is None
        }


def _effects(objectives: Sequence[Objective], changes: Numbers, sizes: Mapping[str, float]) -> dict[str, Effect]:
    """The change by objective: paired effects of rows, and sizes, which are known exactly."""
    return {
        each.name: Effect(sizes[each.name], 0.0, sizes[each.name], sizes[each.name])
        if each.rows is None
        else paired_effect(np.zeros_like(changes[each.name]), changes[each.name])
        for each in objectives
    }
