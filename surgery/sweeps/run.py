"""Carry a sweep out: calibrate once for every budget, prove group by group, keep every run in the history.

What is finished is found again by its content, so a sweep that was stopped goes on, and one that overlaps
another takes over what both ask. A group that fails is tried a bounded number of times and then listed.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

from surgery.adapter import open_adapter
from surgery.calibration import encode
from surgery.edit import Edit
from surgery.errors import Cancelled, SurgeryError
from surgery.measure import attach, calibrate, calibration_rows
from surgery.memory import release
from surgery.pace import remember_proof_pace
from surgery.progress import SILENT, Control
from surgery.proof import Proof, prove
from surgery.recipe import BaseChoice, EvaluationPlan
from surgery.runs import Run, stored_run
from surgery.sensitivity import Sensitivity
from surgery.spectrum import decompose
from surgery.sweeps.ledger import finished, group_keys, remember
from surgery.sweeps.plan import Group, SweepPlan
from surgery.sweeps.spec import SweptAdapter

if TYPE_CHECKING:
    from surgery.live import LiveModel
    from surgery.tasks import LoadedTask

T = TypeVar("T")
Proved = tuple[Run, int, float]  # its answers that were new, and the seconds that they took


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


class Runner(Protocol):
    """What carries groups out and tells of each as it ends, such as `in_process`."""

    def __call__(self, groups: Sequence[Group], attempts: int, control: Control) -> Iterator[Tried]: ...


def run_sweep(plan: SweepPlan, runner: Runner, *, control: Control = SILENT) -> Swept:
    """Carry out what the history does not hold yet; raises `Cancelled`."""
    keys, runs = group_keys(plan.groups), finished(plan.groups)
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


def _told(control: Control, runs: Sequence[Run | None]) -> None:
    control.begin("passes")
    control.progress(sum(run is not None for run in runs), len(runs))


def in_process(groups: Sequence[Group], attempts: int, control: Control = SILENT) -> Iterator[Tried]:
    """One group after another in this process, with one base model in memory at a time."""
    with Bench() as bench:
        adapter, measured = "", _Measured({}, {})
        for group in groups:
            if group.adapter.name != adapter:
                adapter, measured = group.adapter.name, _Measured({}, {})
            reason = _measure(bench, group, measured, attempts, control)
            if reason:
                yield Tried(group, None, reason, attempts)
                continue

            def proof(group: Group = group, found: Mapping[int, Sensitivity] = measured.found) -> Proved:
                control.begin(f"{group.adapter.name} on {group.task.name}")
                return proved_by(bench, group, found, control)

            proved, problem, count = attempt(proof, attempts, bench)
            if proved is None:
                yield Tried(group, None, problem, count)
            else:
                run, answers, seconds = proved
                yield Tried(group, run.plan.key, None, count, answers, seconds)


@dataclass
class _Measured:
    """The passes of one adapter by seed: what was found, and why others failed."""

    found: dict[int, Sensitivity]
    broken: dict[int, str]


def _measure(bench: "Bench", group: Group, measured: _Measured, attempts: int, control: Control) -> str:
    """Make the passes that a group needs and that are not there yet; the problem where one failed."""
    for seed in group.passes:
        if seed in measured.found or seed in measured.broken:
            continue

        def work(seed: int = seed) -> Sensitivity:
            control.begin(f"calibrating {group.adapter.name}")
            return measured_by(bench, group, seed, control)

        found, problem, _ = attempt(work, attempts, bench)
        if found is None:
            measured.broken[seed] = f"the calibration failed: {problem}"
        else:
            measured.found[seed] = found
    return next((measured.broken[seed] for seed in group.passes if seed in measured.broken), "")


class Bench:
    """One adapter attached to one base model, kept until another one is asked for."""

    def __init__(self) -> None:
        self._choice: tuple[str, BaseChoice] | None = None
        self._live: LiveModel | None = None
        self._task: tuple[object, LoadedTask] | None = None

    def live(self, adapter: SweptAdapter) -> "LiveModel":
        """The adapter in its running base; a base that stays the same is not loaded again."""
        from surgery.live import LiveModel

        if self._live is not None and self._choice == (adapter.source, adapter.base):
            return self._live
        opened = open_adapter(adapter.source)
        spectra = decompose(opened)
        if self._live is not None and self._choice is not None and self._choice[1] == adapter.base:
            base = self._live.base
            self._live.close()
            self._live = None
            self._live = LiveModel(base, opened, spectra)
        else:
            self.close()
            self._live = attach(opened, spectra, adapter.base)
        self._choice = (adapter.source, adapter.base)
        return self._live

    def question(self, group: Group) -> "EvaluationPlan | LoadedTask":
        """The rows of a group, or its task, which is loaded once."""
        from surgery.tasks import load_task

        plan = group.task.question
        if isinstance(plan, EvaluationPlan):
            return plan
        place = (plan, group.adapter.base)
        if self._task is None or self._task[0] != place:
            self._task = place, load_task(plan, self.live(group.adapter).base.tokenizer)
        return self._task[1]

    def close(self) -> None:
        if self._live is not None:
            self._live.close()
        self._live = self._choice = self._task = None
        release()

    def __enter__(self) -> "Bench":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def measured_by(bench: Bench, group: Group, seed: int, control: Control = SILENT) -> Sensitivity:
    """The calibration pass of a group's adapter at this seed, at the largest budget of the sweep."""
    plan = group.passes[seed]
    return calibrate(bench.live(group.adapter), plan, base=group.adapter.base, control=control)


def proved_by(
    bench: Bench, group: Group, measured: Mapping[int, Sensitivity], control: Control = SILENT
) -> Proved:
    """Prove a group: its run, how many answers were new, and the seconds that they took."""
    from surgery.judge import sandboxed
    from surgery.sandbox import open_sandbox

    live = bench.live(group.adapter)
    edits = group_edits(live, group, measured)
    question = bench.question(group)
    known: list[int] = []
    total = 0

    def told(done: int, all_: int) -> None:
        nonlocal total
        if not known:
            known.append(done)
        total = all_
        control.progress(done, all_)

    begun = time.monotonic()
    proof = Proof(
        question,
        edits,
        list(group.passes.values()),
        plans={name: edit.plan for name, edit in group.edits.items()},
        base=group.adapter.base,
        batch_size=group.task.batch_size,
    )
    judge = sandboxed(open_sandbox()) if group.task.run_programs else None
    run = prove(live, proof, judge=judge, control=replace(control, progress=told))
    return run, total - (known[0] if known else 0), time.monotonic() - begun


def group_edits(live: "LiveModel", group: Group, measured: Mapping[int, Sensitivity]) -> dict[str, Edit]:
    """The edits of a group, each from the first examples of its pass that its budget has."""
    heads: dict[tuple[int, int], Sensitivity] = {}
    edits = {}
    for name, edit in group.edits.items():
        sensitivity = None
        if edit.plan.policy.needs_gradient:
            place = edit.seed, edit.budget
            if place not in heads:
                heads[place] = _head(live, group, edit.seed, edit.budget, measured[edit.seed])
            sensitivity = heads[place]
        edits[name] = edit.plan.apply(live.spectra, sensitivity)
    return edits


def _head(live: "LiveModel", group: Group, seed: int, budget: int, whole: Sensitivity) -> Sensitivity:
    """What a pass over `budget` rows would have measured: of these some may be too long and left out."""
    plan = group.passes[seed]
    if budget == plan.examples:
        return whole
    rows = calibration_rows(plan)[:budget]
    return whole.head(len(encode(rows, live.base.tokenizer, plan.encoding).examples))


def attempt(work: Callable[[], T], attempts: int, bench: Bench) -> tuple[T | None, str, int]:
    """What the work gives, or None and the last problem; and how often it was tried. `Cancelled` passes."""
    problem = ""
    for count in range(1, attempts + 1):
        try:
            return work(), "", count
        except Cancelled:
            raise
        except Exception as error:
            problem = problem_of(error)
        # outside of the handler, where nothing holds the tensors of the failed try any more
        bench.close()
    return None, problem, attempts


def problem_of(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, SurgeryError):
        return str(error)
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"
