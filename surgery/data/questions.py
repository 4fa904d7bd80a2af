"""The questions that a proof can put to variants, as a recipe, a sweep and the command line name them."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from surgery.data.plain_text import TextPlan
from surgery.data.plans import EvaluationPlan, parse_plan, plan_record
from surgery.data.task_plan import TaskPlan
from surgery.errors import DataError, RecipeError
from surgery.files import mapping_of

Question = EvaluationPlan | TaskPlan | TextPlan
EXAMPLE = "text: demo:text, or task: arc_easy, limit: 100, or rows: FILE.jsonl, limit: 100"
_KINDS = ("text", "task", "rows")


def parse_question(record: object, where: str, *, earlier: bool = False) -> Question:
    """The question that a record names: `text`, `task` or `rows` with the settings of their plans beside it.

    `where` names the record in refusals; `earlier` is as in `parse_plan`. Raises `RecipeError`.
    """
    settings = dict(mapping_of(record, where))
    named = [kind for kind in _KINDS if kind in settings]
    if len(named) != 1:
        said = f"names {' and '.join(named)}" if named else "names no question"
        raise RecipeError(f"{where} {said}", f"write one of them: {EXAMPLE}")
    if named == ["task"]:
        return parse_task(settings, where)
    try:
        if named == ["text"]:
            return parse_plan(TextPlan, settings, where)
    except DataError as error:
        raise RecipeError(f"{where}: {error.problem}", error.remedy) from error
    return parse_plan(EvaluationPlan, {"data": settings.pop("rows"), **settings}, where, earlier=earlier)


def parse_task(record: Mapping[str, Any], where: str) -> TaskPlan:
    """The task that a record names as `task`, with its settings beside it; raises `RecipeError`."""
    try:
        return TaskPlan.of({**{k: each for k, each in record.items() if k != "task"}, "name": record["task"]})
    except DataError as error:
        raise RecipeError(f"{where}: {error.problem}", error.remedy) from error


def parse_questions(value: object, where: str, *, earlier: bool = False) -> tuple[Question, ...]:
    """The questions of a list, each as `parse_question` reads it; raises `RecipeError`."""
    if not isinstance(value, list):
        raise RecipeError(f"{where} is no list but {value!r}", f"write a list of questions: {EXAMPLE}")
    return tuple(parse_question(each, f"{where}[{i}]", earlier=earlier) for i, each in enumerate(value))


def question_record(question: Question) -> dict[str, Any]:
    """A question as `parse_question` reads it, with what is not at its default."""
    if isinstance(question, TaskPlan):
        values: Mapping[str, Any] = question.values()
        return {"task": values["name"], **{name: each for name, each in values.items() if name != "name"}}
    if isinstance(question, TextPlan):
        usual = asdict(TextPlan(question.text))
        return {name: each for name, each in asdict(question).items() if name == "text" or each != usual[name]}
    record = plan_record(question)
    return {"rows": record.pop("data"), **record}


def question_name(question: Question) -> str:
    """What a question asks, in a word: the text, the rows or the task."""
    if isinstance(question, TextPlan):
        return question.text
    return question.data if isinstance(question, EvaluationPlan) else question.name
