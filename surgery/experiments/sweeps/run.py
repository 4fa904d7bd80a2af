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
from surgery.experiments.sweeps.ledger import all_finished, answered, group_keys, remember
from surgery.experiments.sweeps.plan import Group, SweepCell, SweepPlan
from surgery.progress import SILENT, Control
from surgery.runs import Run, RunGroup, keep_group
from surgery.sensitivity import Sensitivity, remember_proof_pace


@dataclass(frozen=True)
class Tried:
    """How a group ended: the key of its run, or the problem that was left after `attempts` tries.

    `seconds` of its last try went into `answers` (examples × variants) that no earlier run had. `guards` are the keys
    of the runs of its guards.
    """

    group: Group
    run: str | None
    problem: str | None = None
    attempts: int = 1
    answers: int = 0
    seconds: float = 0.0
    guards: tuple[str, ...] = ()


@dataclass(frozen=True)
class Swept:
    """A sweep that has ended: the run of every finished group, and those that failed.

    `guards` are the runs of each group's guards, in the order of `runs`.
    """

    plan: SweepPlan
    runs: tuple[tuple[Group, Run], ...]
    failed: tuple[Tried, ...]
    guards: tuple[tuple[Run, ...], ...] = ()

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
    known = answered(plan.groups, keys)
    keep_sweep(plan, keys)
    places = {id(group): place for place, group in enumerate(plan.groups)}
    left = [group for group, run in zip(plan.groups, known, strict=True) if run is None]
    failed = []
    _told(control, known)
    for tried in runner(left, plan.sweep.attempts, control):
        runs = all_finished([tried.run or "", *tried.guards])
        if runs is None:
            failed.append(tried)
            continue
        place = places[id(tried.group)]
        known[place] = runs
        remember(keys[place], runs)
        remember_proof_pace(tried.group.adapter.base, tried.group.task.name, tried.answers, tried.seconds)
        _told(control, known)
    swept = _swept(plan, known, tuple(failed))
    for (_, own), guards in zip(swept.runs, swept.guards, strict=True):
        if guards:  # pages find what belongs together by the group, whichever machine answered
            keep_group(RunGroup(own.plan.key, tuple(guard.plan.key for guard in guards)))
    return swept


def so_far(plan: SweepPlan) -> Swept:
    """What the history holds of a sweep; nothing is carried out."""
    return _swept(plan, answered(plan.groups), ())


def _swept(plan: SweepPlan, known: Sequence[tuple[Run, ...] | None], failed: tuple[Tried, ...]) -> Swept:
    ended_groups = [(group, runs) for group, runs in zip(plan.groups, known, strict=True) if runs is not None]
    found = tuple((group, runs[0]) for group, runs in ended_groups)
    return Swept(plan, found, failed, tuple(runs[1:] for _, runs in ended_groups))


def _told(control: Control, known: Sequence[object | None]) -> None:
    control.begin("passes")
    control.progress(sum(each is not None for each in known), len(known))


def ended(group: Group, proved: Proved, attempts: int) -> Tried:
    """A group that was proven, as a runner tells it."""
    guards = proved.beside.guards if proved.beside is not None else ()
    return Tried(group, proved.run.plan.key, None, attempts, proved.answers, proved.seconds, guards)


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
                yield ended(group, proved, count)
