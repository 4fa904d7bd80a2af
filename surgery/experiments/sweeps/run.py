"""Carry a sweep out: calibrate once for every budget, prove group by group, keep every run in the history.

What is finished is found again by its content, so a sweep that was stopped goes on, and one that overlaps
another takes over what both ask. A group that fails is tried a bounded number of times and then listed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from surgery.data import CalibrationPlan
from surgery.experiments.sweeps.attached import (
    AttachedAdapter,
    Measured,
    Proved,
    attempt,
    measure_budgets,
    proved_by,
)
from surgery.experiments.sweeps.kept import Answered, keep_sweep
from surgery.experiments.sweeps.ledger import finished, group_keys, remember
from surgery.experiments.sweeps.plan import Group, SweepCell, SweepPlan
from surgery.progress import SILENT, Control
from surgery.runs import Run, stored_run
from surgery.sensitivity import Sensitivity, remember_proof_pace


@dataclass(frozen=True)
class Tried:
    """How a group ended: the key of its run, or the problem that was left after `attempts` tries.

    `seconds` of its last try went into `answers` (examples × variants) that no earlier run had.
    """

    group: Group
    run: str | None
    problem: str | None = None
    attempts: int = 1
    answers: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Swept:
    """A sweep that has ended: the run of every finished group, and those that failed."""

    plan: SweepPlan
    runs: tuple[tuple[Group, Run], ...]
    failed: tuple[Tried, ...]

    @property
    def cells(self) -> tuple[SweepCell, ...]:
        return self.plan.cells

    @property
    def answered(self) -> tuple[Answered, ...]:
        """The finished runs, and what each answers for."""
        return tuple(
            Answered(group.adapter.name, group.task.name, tuple(group.edits), run) for group, run in self.runs
        )


class Runner(Protocol):
    """What carries groups out and tells of each as it ends, such as `in_process`."""

    def __call__(self, groups: Sequence[Group], attempts: int, control: Control) -> Iterator[Tried]: ...


def run_sweep(plan: SweepPlan, runner: Runner, *, control: Control = SILENT) -> Swept:
    """Carry out what the history does not hold yet; raises `Cancelled`."""
    keys = group_keys(plan.groups)
    runs = finished(plan.groups, keys)
    keep_sweep(plan, keys)
    places = {id(group): place for place, group in enumerate(plan.groups)}
    left = [group for group, run in zip(plan.groups, runs, strict=True) if run is None]
    failed = []
    _told(control, runs)
    for ended in runner(left, plan.sweep.attempts, control):
        run = stored_run(ended.run) if ended.run else None
        if run is None or not run.finished:
            failed.append(ended)
            continue
        place = places[id(ended.group)]
        runs[place] = run
        remember(keys[place], run)
        remember_proof_pace(ended.group.adapter.base, ended.group.task.name, ended.answers, ended.seconds)
        _told(control, runs)
    found = tuple((group, run) for group, run in zip(plan.groups, runs, strict=True) if run is not None)
    return Swept(plan, found, tuple(failed))


def so_far(plan: SweepPlan) -> Swept:
    """What the history holds of a sweep; nothing is carried out."""
    runs = finished(plan.groups)
    found = tuple((group, run) for group, run in zip(plan.groups, runs, strict=True) if run is not None)
    return Swept(plan, found, ())


def _told(control: Control, runs: Sequence[Run | None]) -> None:
    control.begin("passes")
    control.progress(sum(run is not None for run in runs), len(runs))


def in_process(groups: Sequence[Group], attempts: int, control: Control = SILENT) -> Iterator[Tried]:
    """One group after another in this process, with one base model in memory at a time."""
    with AttachedAdapter() as attached:
        adapter, measured = "", Measured({}, {})
        for group in groups:
            if group.adapter.name != adapter:
                adapter, measured = group.adapter.name, Measured({}, {})
            reason = measure_budgets(attached, group, measured, attempts, control)
            if reason:
                yield Tried(group, None, reason, attempts)
                continue

            def proof(
                group: Group = group, sensitivities: Mapping[CalibrationPlan, Sensitivity] = measured.sensitivities
            ) -> Proved:
                control.begin(f"{group.adapter.name} on {group.task.name}")
                return proved_by(attached, group, sensitivities, control)

            proved, problem, count = attempt(proof, attempts, attached)
            if proved is None:
                yield Tried(group, None, problem, count)
            else:
                run, answers, seconds = proved
                yield Tried(group, run.plan.key, None, count, answers, seconds)
