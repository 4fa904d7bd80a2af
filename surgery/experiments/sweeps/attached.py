"""One adapter of a sweep on its base: passes of calibration, groups of edits proven, failures tried again."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan, EvaluationPlan, Question, TaskPlan, TextPlan
from surgery.edits import Edit
from surgery.errors import Cancelled, SurgeryError, first_line
from surgery.experiments import Proof, prove, prove_guards
from surgery.experiments.sweeps.plan import Group
from surgery.experiments.sweeps.spec import SweptAdapter
from surgery.model import BaseChoice, attach, release
from surgery.progress import SILENT, Control
from surgery.runs import Run, RunGroup
from surgery.sensitivity import Sensitivity, calibrate
from surgery.spectra import decompose

if TYPE_CHECKING:
    from surgery.evaluation.lm_eval import LoadedTask
    from surgery.model import LiveModel

T = TypeVar("T")


@dataclass(frozen=True)
class Proved:
    """A run, its `answers` that were new, the `seconds` that they took, and the group of its guards where it has any."""

    run: Run
    answers: int
    seconds: float
    beside: RunGroup | None = None


@dataclass
class Measured:
    """The passes of one adapter: what was found, and why others failed."""

    sensitivities: dict[CalibrationPlan, Sensitivity]
    failures: dict[CalibrationPlan, str]


def measure_budgets(
    attached: "AttachedAdapter", group: Group, measured: Measured, attempts: int, control: Control
) -> str:
    """Make the passes that a group needs and that are not there yet; the problem where one failed."""
    for plan in group.passes:
        if plan in measured.sensitivities or plan in measured.failures:
            continue

        def work(plan: CalibrationPlan = plan) -> Sensitivity:
            control.begin(f"calibrating {group.adapter.name}")
            return measured_by(attached, group.adapter, plan, control)

        found, problem, _ = attempt(work, attempts, attached)
        if found is None:
            measured.failures[plan] = f"the calibration failed: {problem}"
        else:
            measured.sensitivities[plan] = found
    return next((measured.failures[plan] for plan in group.passes if plan in measured.failures), "")


class AttachedAdapter:
    """One adapter attached to one base model, kept until another one is asked for."""

    def __init__(self) -> None:
        self._choice: tuple[str, BaseChoice] | None = None
        self._live: LiveModel | None = None
        self._tasks: dict[object, LoadedTask] = {}

    def live(self, adapter: SweptAdapter) -> "LiveModel":
        """The adapter in its running base; a base that stays the same is not loaded again."""
        from surgery.model import LiveModel

        if self._live is not None and self._choice == (adapter.source, adapter.base):
            return self._live
        opened = open_adapter(adapter.source)
        spectra = decompose(opened)
        same = self._live is not None and self._choice is not None and self._choice[1] == adapter.base
        if same and self._live is not None and self._live.base.serves(opened):
            base = self._live.base
            self._live.close()
            self._live = None
            self._live = LiveModel(base, opened, spectra)
        else:
            self.close()
            self._live = attach(opened, spectra, adapter.base)
        self._choice = (adapter.source, adapter.base)
        self._tasks = {}
        return self._live

    def question(self, adapter: SweptAdapter, plan: Question) -> "EvaluationPlan | LoadedTask | TextPlan":
        """Rows and text as they are planned, or a task, which is loaded once for an adapter."""
        if not isinstance(plan, TaskPlan):
            return plan
        place = repr(plan)  # of which its data files are no key
        if place not in self._tasks:
            from surgery.evaluation.lm_eval import load_task

            self._tasks[place] = load_task(plan, self.live(adapter).tokenizer_named(plan.tokenizer))
        return self._tasks[place]

    def close(self) -> None:
        if self._live is not None:
            self._live.close()
        self._live = self._choice = None
        self._tasks = {}
        release()

    def __enter__(self) -> "AttachedAdapter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def measured_by(
    attached: AttachedAdapter, adapter: SweptAdapter, plan: CalibrationPlan, control: Control = SILENT
) -> Sensitivity:
    """A calibration pass of an adapter."""
    return calibrate(attached.live(adapter), plan, base=adapter.base, control=control)


def proved_by(
    attached: AttachedAdapter,
    group: Group,
    measured: Mapping[CalibrationPlan, Sensitivity],
    control: Control = SILENT,
) -> Proved:
    """Prove a group, and put its guards to the same variants."""
    from surgery.evaluation.lm_eval import sandboxed
    from surgery.sandbox import open_sandbox

    live = attached.live(group.adapter)
    edits = group_edits(live, group, measured)
    question = attached.question(group.adapter, group.task.question)
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
        group.seen,
        plans={name: edit.plan for name, edit in group.edits.items()},
        base=group.adapter.base,
        batch_size=group.task.batch_size,
        allow_near=group.task.allow_near,
        base_arm=group.task.base_arm,
        seen_tasks=group.seen_tasks,
    )
    judge = sandboxed(open_sandbox()) if group.task.run_programs else None
    run = prove(live, proof, judge=judge, control=replace(control, progress=told))
    answers, seconds = total - (known[0] if known else 0), time.monotonic() - begun
    guards = [attached.question(group.adapter, plan) for plan in group.adapter.guards]
    beside = prove_guards(live, proof, run, guards, judge=judge, control=control)
    return Proved(run, answers, seconds, beside)


def group_edits(
    live: "LiveModel", group: Group, measured: Mapping[CalibrationPlan, Sensitivity]
) -> dict[str, Edit]:
    """The edits of a group, each from the first examples of its pass that its budget has."""
    heads: dict[tuple[CalibrationPlan, int], Sensitivity] = {}
    edits = {}
    for name, edit in group.edits.items():
        sensitivity = None
        if edit.plan.needs_sensitivity:
            place = group.pass_for(edit), edit.budget
            if place not in heads:
                # rows that cannot be measured give way to those that follow, in a shorter pass as in a longer one
                whole = measured[place[0]]
                heads[place] = whole.head(min(edit.budget, whole.examples))
            sensitivity = heads[place]
        edits[name] = edit.plan.apply(live.spectra, sensitivity)
    return edits


def attempt(work: Callable[[], T], attempts: int, attached: AttachedAdapter) -> tuple[T | None, str, int]:
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
        attached.close()
    return None, problem, attempts


def problem_of(error: BaseException) -> str:
    """An error in one line."""
    if isinstance(error, SurgeryError):
        return str(error)
    return first_line(error, kind=True)
