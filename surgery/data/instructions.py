"""Wordings of records that are no plain prompt and answer: Alpaca's instructions and questions with choices."""

from collections.abc import Mapping
from typing import Any

from surgery.data.fields import text_of
from surgery.data.rows import NO_ANSWER, NO_FIELD, NO_PROMPT, NOT_TEXT, UNREADABLE, Row, UnusableRow

ALPACA_COLUMNS = ("instruction", "input", "output", "system", "history")
# what every adapter that was trained on Alpaca's rows has seen, to the character
_ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
_ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
CHOICE_COLUMNS = ("question", "question_stem", "choices", "answerKey", "answer")


def alpaca_row(record: Mapping[str, Any]) -> Row:
    """An instruction and its output in Alpaca's words, which differ where there is an input. Raises `UnusableRow`."""
    for name in ("system", "history"):
        if record.get(name):
            raise UnusableRow(NOT_TEXT, f"has {name!r} beside its instruction", "write the rows as conversations")
    text_of("instruction", record, NO_PROMPT)
    given = record.get("input")
    blank = given is None or (isinstance(given, str) and not given.strip())
    wording = _ALPACA if blank else _ALPACA_WITH_INPUT
    return Row(text_of(wording, record, NO_PROMPT), text_of("output", record, NO_ANSWER))


def has_choices(record: Mapping[str, Any]) -> bool:
    """Whether a record is a question with choices, as CommonsenseQA, ARC, OpenBookQA and MMLU write them."""
    answered = "answerKey" in record or type(record.get("answer")) is int
    return answered and bool(_choices(record))


def choice_row(record: Mapping[str, Any]) -> Row:
    """A question with its choices below it, one a line, and the label of the right one, as lm-eval asks it.

    Raises `UnusableRow` for a record without choices or without a right one among them.
    """
    choices = _choices(record)
    if not choices:
        raise UnusableRow(NO_FIELD, "has no choices", "give every row its question, choices and answerKey")
    labels = [label for label, _ in choices]
    key = record.get("answerKey")
    if key in (None, ""):
        at = record.get("answer")
        key = labels[at] if type(at) is int and 0 <= at < len(labels) else None
    if key not in labels:
        reason = NO_ANSWER if key is None else UNREADABLE
        raise UnusableRow(
            reason, f"has no choice {str(key)[:20]!r}", "give every row the label of the right choice"
        )
    lines = [f"{label}. {text}" for label, text in choices]
    question = text_of(_question(record), record, NO_PROMPT).strip()
    return Row("\n".join([f"Question: {question}", *lines, "Answer:"]), key)


def _question(record: Mapping[str, Any]) -> str:
    if isinstance(record.get("question"), Mapping):
        return "question.stem"
    return "question_stem" if isinstance(record.get("question_stem"), str) else "question"


def _choices(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Labels and texts of the choices: a list of both, a list of each, or texts alone, which go by letters."""
    question = record.get("question")
    found = question.get("choices") if isinstance(question, Mapping) else record.get("choices")
    if isinstance(found, Mapping):
        labels, texts = found.get("label"), found.get("text")
    elif isinstance(found, list) and all(isinstance(each, Mapping) for each in found):
        labels, texts = [each.get("label") for each in found], [each.get("text") for each in found]
    else:
        texts = found
        labels = [chr(ord("A") + at) for at in range(len(found))] if isinstance(found, list) else None
    if not isinstance(labels, list) or not isinstance(texts, list) or len(labels) != len(texts):
        return []
    pairs = list(zip(labels, texts, strict=True))
    return pairs if all(isinstance(part, str) for pair in pairs for part in pair) else []
