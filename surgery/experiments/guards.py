"""A proof on several tasks: the edits' own, and guards that they are not to hurt, asked one after the other.

Every question is a run of its own, which goes on where it was cut off and shares what is known; the group says that
they belong together.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from surgery.data import (
    EXAMPLE,
    CalibrationPlan,
    EvaluationPlan,
    Question,
    Slices,
    TaskPlan,
    TextPlan,
    parse_question,
    question_name,
    read_slices,
)
from surgery.errors import RecipeError
from surgery.experiments.proof import Proof, prove
from surgery.experiments.question import refuse_seen_text
from surgery.files import mapping_of, parse_yaml
from surgery.progress import SILENT, Control
from surgery.runs import Run, RunGroup, keep_group

if TYPE_CHECKING:
    from surgery.evaluation.lm_eval import Judge, LoadedTask
    from surgery.model import LiveModel

GUARD = "guard"  # the purpose of a guard's run


def parse_guard(text: str) -> Question:
    """The question that a text names: `text`, `task` or `rows` with their settings, as one line of YAML.

    Such as `text: demo:text`, `task: arc_easy, limit: 100` and `rows: FILE.jsonl, limit: 100, template: plain`;
    settings are those of `TextPlan`, `TaskPlan` and `EvaluationPlan`. Raises `RecipeError`.
    """
    try:
        settings = mapping_of(parse_yaml(f"{{{text}}}", "the guard"), "the guard")
    except RecipeError as error:
        raise RecipeError(f"the guard {text!r} cannot be read ({error.problem})", f"write {EXAMPLE}") from error
    return parse_question(settings, f"the guard {text!r}")


def check_guards(guards: Iterable[Question], seen: Sequence[CalibrationPlan]) -> None:
    """Refuse guards that can be told without a model not to do: unreadable ones, and what an edit was made on.

    guards: questions, of which tasks are known once they are loaded.
    seen: the slices that the edits were made or chosen on.

    Raises `DataError`; `NearDuplicatesError` for rows that are nearly the same, unless their plan allows them.
    """
    for guard in guards:
        if isinstance(guard, TextPlan):
            refuse_seen_text(guard, read_slices(seen))
        elif isinstance(guard, EvaluationPlan):
            read_slices(seen, guard)


def load_guards(
    live: "LiveModel", guards: Sequence[Question], *, control: Control = SILENT
) -> "list[EvaluationPlan | LoadedTask | TextPlan]":
    """The guards with their tasks loaded. Raises `DataError` for tasks that cannot be asked here."""
    return [_task(live, plan, control) if isinstance(plan, TaskPlan) else plan for plan in guards]


def _task(live: "LiveModel", plan: TaskPlan, control: Control) -> "LoadedTask":
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
    return own, prove_guards(live, proof, own, guards, judge=judge, control=control)


def prove_guards(
    live: "LiveModel",
    proof: Proof,
    own: Run,
    guards: "Sequence[EvaluationPlan | LoadedTask | TextPlan]",
    *,
    judge: "Judge | None" = None,
    control: Control = SILENT,
) -> RunGroup | None:
    """The variants of a proof that was answered, on every guard: the group of its run and theirs, None without guards.

    own: the run of the proof.

    Raises what `prove` raises.
    """
    if not guards:
        return None
    keys = []
    for question in guards:
        control.begin(f"answering the guard {_named(question)}")
        guard = _guarded(proof, question)
        keys.append(prove(live, guard, judge=judge, control=control).plan.key)
    return keep_group(RunGroup(own.plan.key, tuple(keys)))


def _guarded(proof: Proof, question: "EvaluationPlan | LoadedTask | TextPlan") -> Proof:
    """The proof on a guard: under its margins where the guard names none, in batches of the guard's own length."""
    margins = proof.named_margins
    if isinstance(question, EvaluationPlan) and margins is not None and not question.margin:
        question = replace(question, margin=margins.texts)
    return replace(proof, question=question, purpose=GUARD, batch_size=None, margins=margins)


def _named(question: "EvaluationPlan | LoadedTask | TextPlan") -> str:
    return question_name(question if isinstance(question, EvaluationPlan | TextPlan) else question.plan)
