"""A proof on several tasks: the edits' own, and guards that they are not to hurt, asked one after the other.

Every question is a run of its own, which goes on where it was cut off and shares what is known; the group says that
they belong together.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from surgery.data import EvaluationPlan, Slices, TextPlan, parse_plan
from surgery.errors import RecipeError
from surgery.experiments.proof import Proof, prove
from surgery.files import mapping_of, parse_yaml
from surgery.progress import SILENT, Control
from surgery.runs import Run, RunGroup, keep_group

if TYPE_CHECKING:
    from surgery.evaluation.lm_eval import Judge, LoadedTask, TaskPlan
    from surgery.model import LiveModel

GUARD = "guard"  # the purpose of a guard's run
_EXAMPLE = "text: demo:text, or task: arc_easy, limit: 100, or rows: FILE.jsonl, limit: 100"


def parse_guard(text: str) -> "EvaluationPlan | TaskPlan | TextPlan":
    """The question that a text names: `text`, `task` or `rows` with their settings, as one line of YAML.

    Such as `text: demo:text`, `task: arc_easy, limit: 100` and `rows: FILE.jsonl, limit: 100, template: plain`;
    settings are those of `TextPlan`, `TaskPlan` and `EvaluationPlan`. Raises `RecipeError` or `DataError`.
    """
    try:
        settings = dict(mapping_of(parse_yaml(f"{{{text}}}", "the guard"), "the guard"))
    except RecipeError as error:
        raise RecipeError(f"the guard {text!r} cannot be read ({error.problem})", f"write {_EXAMPLE}") from error
    kind = next((each for each in ("text", "task", "rows") if each in settings), None)
    if kind is None:
        raise RecipeError(f"the guard {text!r} names no question", f"write {_EXAMPLE}")
    if kind == "text":
        return parse_plan(TextPlan, settings, "text")
    if kind == "task":
        from surgery.evaluation.lm_eval import TaskPlan

        return TaskPlan.of({"name": settings.pop("task"), **settings})
    return parse_plan(EvaluationPlan, {"data": settings.pop("rows"), **settings}, "rows")


def guard_text(plan: "EvaluationPlan | TaskPlan | TextPlan") -> str:
    """What a guard asks, in a word."""
    if isinstance(plan, TextPlan):
        return plan.text
    return plan.data if isinstance(plan, EvaluationPlan) else plan.name


def load_guards(
    live: "LiveModel", guards: "Sequence[EvaluationPlan | TaskPlan | TextPlan]", *, control: Control = SILENT
) -> "list[EvaluationPlan | LoadedTask | TextPlan]":
    """The guards with their tasks loaded. Raises `DataError` for tasks that cannot be asked here."""
    return [plan if isinstance(plan, EvaluationPlan | TextPlan) else _task(live, plan, control) for plan in guards]


def _task(live: "LiveModel", plan: Any, control: Control) -> "LoadedTask":
    from surgery.evaluation.lm_eval import load_task

    return load_task(plan, live.tokenizer_named(plan.tokenizer), control=control)


def prove_with_guards(
    live: "LiveModel",
    proof: Proof,
    guards: "Sequence[EvaluationPlan | LoadedTask | TextPlan]",
    *,
    slices: Slices | None = None,
    judge: "Judge | None" = None,
    control: Control = SILENT,
) -> tuple[Run, RunGroup | None]:
    """`prove`, then the same variants on every guard; the own task's run and the group, None without guards.

    slices: the rows of the proof; those of the guards are read here.

    Raises what `prove` raises. What was answered until then is kept: asked again, every question goes on.
    """
    own = prove(live, proof, slices=slices, judge=judge, control=control)
    if not guards:
        return own, None
    keys = []
    for question in guards:
        control.begin(f"answering the guard {_named(question)}")
        guard = _guarded(proof, question)
        keys.append(prove(live, guard, judge=judge, control=control).plan.key)
    return own, keep_group(RunGroup(own.plan.key, tuple(keys)))


def _guarded(proof: Proof, question: "EvaluationPlan | LoadedTask | TextPlan") -> Proof:
    """The proof on a guard: under its margins where the guard names none, in batches of the guard's own length."""
    margins = proof.named_margins
    if isinstance(question, EvaluationPlan) and margins is not None and not question.margin:
        question = replace(question, margin=margins.texts)
    return replace(proof, question=question, purpose=GUARD, batch_size=None, margins=margins)


def _named(question: "EvaluationPlan | LoadedTask | TextPlan") -> str:
    return guard_text(question if isinstance(question, EvaluationPlan | TextPlan) else question.plan)
