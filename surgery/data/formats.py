"""Formats of records: how each kind becomes rows, and which one the records of a source are of."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from surgery.data.conversations import (
    ALL,
    CONVERSATION_COLUMNS,
    CONVERSATIONS,
    LAST,
    TURNS,
    conversation_rows,
    is_conversation,
    messages_of,
    record_messages,
)
from surgery.data.fields import fields_in, text_of
from surgery.data.instructions import ALPACA_COLUMNS, CHOICE_COLUMNS, alpaca_row, choice_row, has_choices
from surgery.data.labelled import (
    LABELLED_COLUMNS,
    TAGGED_COLUMNS,
    has_label,
    has_tags,
    labelled_row,
    tagged_row,
)
from surgery.data.rows import NO_ANSWER, NO_FIELD, NO_PROMPT, NO_TEXT, UNREADABLE, Row, UnusableRow
from surgery.errors import DataError

AUTO, FIELDS = "auto", "fields"
# prompts and answers of well-known data: GSM8K, MetaMathQA, both of Magicoder, MBPP, HumanEval
_PAIRS = (
    ("question", "answer"),
    ("query", "response"),
    ("problem", "solution"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("question", "response"),
    ("input", "output"),
    ("text", "code"),
    ("prompt", "canonical_solution"),
)
# a pair beside one of these is not all that a model was trained on
_BESIDE = ("context", "input", "passage", "system", "system_prompt", "instruction", "history")


@dataclass(frozen=True)
class RowFields:
    """How a record becomes rows: its format, and where it has its prompt and its answer.

    `format` is one of `FORMATS`; `auto` stands for the one that the records are of, and for `fields` where a
    prompt or an answer is named. Those are names of fields, or templates around several, as `fields.text_of` takes
    them. `turns` says which answers of a conversation are scored, its `last` or `all`, each as a row of its own.
    Raises `DataError` for a template that cannot be read and for an unknown format.
    """

    prompt: str = "prompt"
    answer: str = "answer"
    format: str = AUTO
    turns: str = LAST

    def __post_init__(self) -> None:
        for text in (self.prompt, self.answer):
            fields_in(text)
        for value, known, what in ((self.format, FORMATS, "format"), (self.turns, TURNS, "choice of turns")):
            if value not in known:
                raise DataError(f"no {what} is called {value!r}", f"use one of {', '.join(known)}")

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields that are read, each once."""
        if self.format not in (AUTO, FIELDS):
            return _KINDS[self.format].columns
        names = [*fields_in(self.prompt), *fields_in(self.answer)]
        return tuple(dict.fromkeys(part for name in names for part in (name, name.partition(".")[0])))

    @property
    def described(self) -> str:
        """The format in a few words."""
        if self.format == FIELDS or self._named:
            return f"{self.prompt} → {self.answer}"
        text = FORMATS[self.format]
        return f"{text}, every answer" if self.format in (AUTO, *CONVERSATIONAL) and self.turns == ALL else text

    @property
    def _named(self) -> bool:
        """Whether `auto` stands for the fields, since these were named."""
        return self.format == AUTO and (self.prompt, self.answer) != (RowFields.prompt, RowFields.answer)

    def of(self, records: Iterable[Any]) -> "RowFields":
        """These fields with the format that most of the records are of, where it is not settled yet.

        Records that fit no format leave the fields as they are named.
        """
        if self.format != AUTO or self._named:
            return replace(self, format=FIELDS) if self._named else self
        found = [record for record in records if isinstance(record, dict)]
        candidates = [replace(self, format=name) for name in _KINDS]
        at = list(_KINDS).index("multiple-choice")
        candidates[at:at] = [replace(self, prompt=a, answer=b, format=FIELDS) for a, b in _PAIRS]
        named = replace(self, format=FIELDS)
        return max([named, *candidates], key=lambda each: sum(each.fits(record) for record in found))

    def fits(self, record: Mapping[str, Any]) -> bool:
        """Whether a record is of this format; how well its fields are filled is not looked at."""
        if self.format != FIELDS:
            return _KINDS[self.format].fits(record)
        pair = (self.prompt, self.answer)
        beside = pair in _PAIRS and any(record.get(name) is not None for name in _BESIDE if name not in pair)
        return all(isinstance(record.get(name), str) for name in pair) and not beside

    def rows(self, record: Any) -> list[Row]:
        """The rows of a record, at least one; raises `UnusableRow`."""
        if not isinstance(record, dict):
            raise UnusableRow(UNREADABLE, "is not an object", "write every record as a JSON object")
        settled = self.of([record])
        if settled.format != FIELDS:
            return _KINDS[settled.format].rows(record, self.turns)
        if all(isinstance(record.get(name), list) for name in (settled.prompt, settled.answer)):
            return [tagged_row(record, settled.prompt, settled.answer)]
        prompt = text_of(settled.prompt, record, NO_PROMPT)
        return [Row(prompt, text_of(settled.answer, record, NO_ANSWER))]


def _conversation(record: Mapping[str, Any], turns: str) -> list[Row]:
    name = next((name for name in CONVERSATIONS if record.get(name) is not None), None)
    if name is None:
        raise UnusableRow(NO_FIELD, f"has no {CONVERSATIONS[0]!r}", "give every row its messages")
    return conversation_rows(record_messages(record, name), turns)


def _completion(record: Mapping[str, Any], turns: str) -> list[Row]:
    """Text and text, or the turns before and those that are learned."""
    prompt, completion = record.get("prompt"), record.get("completion")
    if not is_conversation(prompt) and not is_conversation(completion):
        return [Row(text_of("prompt", record, NO_PROMPT), text_of("completion", record, NO_ANSWER))]
    before = record_messages(record, "prompt")
    return conversation_rows([*before, *messages_of(completion, "completion")], turns, len(before))


def _completes(record: Mapping[str, Any]) -> bool:
    pair = (record.get("prompt"), record.get("completion"))
    return all(isinstance(each, str) for each in pair) or all(is_conversation(each) for each in pair)


def _text_alone(record: Mapping[str, Any]) -> bool:
    return isinstance(record.get("text"), str) and all(record.get(name) is None for name in ("label", "labels"))


class _Kind(NamedTuple):
    """One format: its title, the fields that it reads, whether a record is of it, and the rows of one that is."""

    title: str
    columns: tuple[str, ...]
    fits: Callable[[Mapping[str, Any]], bool]
    rows: Callable[[Mapping[str, Any], str], list[Row]]


# in the order in which they are tried
_KINDS = {
    "messages": _Kind(
        "conversations (messages, ShareGPT)",
        CONVERSATION_COLUMNS,
        lambda record: any(is_conversation(record.get(name)) for name in CONVERSATIONS),
        _conversation,
    ),
    "prompt-completion": _Kind(
        "prompt and completion (TRL)", ("prompt", "completion", "tools"), _completes, _completion
    ),
    "alpaca": _Kind(
        "instructions in Alpaca's words",
        ALPACA_COLUMNS,
        lambda record: all(isinstance(record.get(name), str) for name in ("instruction", "output")),
        lambda record, _: [alpaca_row(record)],
    ),
    "multiple-choice": _Kind(
        "questions with choices", CHOICE_COLUMNS, has_choices, lambda record, _: [choice_row(record)]
    ),
    "tagged-words": _Kind("words with tags", TAGGED_COLUMNS, has_tags, lambda record, _: [tagged_row(record)]),
    "labelled-text": _Kind(
        "texts with labels", LABELLED_COLUMNS, has_label, lambda record, _: [labelled_row(record)]
    ),
    "text": _Kind(
        "texts, scored whole",
        ("text",),
        _text_alone,
        lambda record, _: [Row("", text_of("text", record, NO_TEXT))],
    ),
}
CONVERSATIONAL = ("messages", "prompt-completion")  # the formats that `turns` matters to
# what each is called where a person chooses
FORMATS = {
    AUTO: "as the rows are",
    FIELDS: "fields of prompt and answer",
    **{name: kind.title for name, kind in _KINDS.items()},
}
PLAIN_FIELDS = RowFields()
