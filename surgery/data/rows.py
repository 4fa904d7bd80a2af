"""Rows of prompt and answer: the fields of a record that they are made from, reasons for leaving records out, seeded slices."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surgery.errors import DataError
from surgery.files import digest, read_limited, user_path

# why a row is left out
TOO_LONG, NO_PROMPT, NO_ANSWER = "too long", "empty prompt", "empty answer"
NO_FIELD, UNREADABLE = "missing field", "unreadable"
_MOST_BYTES = 256 << 20  # of a file that is read whole
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class UnusableRow(DataError):
    """One row that is no prompt and answer; `reason` is one of the reasons for leaving rows out."""

    def __init__(self, reason: str, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.reason = reason


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; `role` is `system`, `user` or `assistant`."""

    role: str
    content: str


@dataclass(frozen=True)
class Row:
    """One task as text: a prompt and its answer, a conversation, or a text alone, whose prompt is empty.

    `messages` is the whole of a conversation, and empty for other rows. The last of them is the assistant's, whose
    text is `answer`; `prompt` is then the texts before it, joined by line feeds.
    """

    prompt: str
    answer: str
    messages: tuple[Message, ...] = ()

    @classmethod
    def of(cls, messages: Sequence[Message]) -> "Row":
        """The row of a conversation, at least one message, that ends with the assistant's answer."""
        *before, answer = messages
        return cls("\n".join(message.content for message in before), answer.content, tuple(messages))

    @property
    def key(self) -> str:
        """Content hash: two slices share an example exactly when they share a key.

        One user's turn and its answer are the same example as that prompt with that answer.
        """
        if [message.role for message in self.messages] in ([], ["user", "assistant"]):
            return digest([self.prompt.strip(), self.answer.strip()])[:32]
        return digest(text for each in self.messages for text in (each.role, each.content.strip()))[:32]


@dataclass(frozen=True)
class RowFields:
    """Where a record has its prompt and its answer: the name of a field, or a template around several.

    A text with braces is a template: `{name}` stands for a top-level field, `{{` and `}}` for braces. It
    takes texts, numbers and booleans, these as JSON writes them; a field that is named alone must be text.
    Nothing in a template is evaluated, so `{a.b}` is the field called `a.b`. Raises `DataError` for a
    template that cannot be read.
    """

    prompt: str = "prompt"
    answer: str = "answer"

    def __post_init__(self) -> None:
        for text in (self.prompt, self.answer):
            _fields_in(text)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that are read, each once."""
        return tuple(dict.fromkeys([*_fields_in(self.prompt), *_fields_in(self.answer)]))

    def row(self, record: Any) -> Row:
        """The row of a record; raises `UnusableRow`."""
        if not isinstance(record, dict):
            raise UnusableRow(UNREADABLE, "is not an object", "write one JSON object on each line")
        return Row(_text(self.prompt, record, NO_PROMPT), _text(self.answer, record, NO_ANSWER))


def _fields_in(text: str) -> list[str]:
    """The fields that a name or template names, in order."""
    if "{" not in text and "}" not in text:
        if not text.strip():
            raise DataError("a field without a name was asked for", "name the fields of prompt and answer")
        return [text]
    names = []
    for match in _BRACES.finditer(text):
        if match[0] in "{}":
            raise DataError(
                f"the template {text[:60]!r} has a single {match[0]!r}", "write {name} for a field, {{ for a brace"
            )
        if match[1] is not None:
            names.append(match[1])
    if not names or not all(name.strip() for name in names):
        raise DataError(f"the template {text[:60]!r} names no field", "write a field's name in braces, {name}")
    return names


def _text(wanted: str, record: Mapping[str, Any], empty: str) -> str:
    """What a field or a template gives for a record; `empty` is the reason when that is no text."""
    names = _fields_in(wanted)
    is_template = names != [wanted]
    remedy = "give every row a non-empty prompt and answer"
    for name in names:
        if name not in record:
            raise UnusableRow(NO_FIELD, f"has no text in {name!r}", remedy)
        value = record[name]
        allowed: tuple[type, ...] = (str, int, float) if is_template else (str,)
        blank = value is None or (isinstance(value, str) and not value.strip())
        if blank and not is_template:
            raise UnusableRow(empty, f"has no text in {name!r}", remedy)
        if not isinstance(value, allowed) or (isinstance(value, float) and not math.isfinite(value)):
            as_template = f"write {{{name}}} to take numbers as text"
            is_number = isinstance(value, (int, float)) and not is_template
            raise UnusableRow(
                empty if blank else UNREADABLE, f"has no text in {name!r}", as_template if is_number else remedy
            )
        try:
            str(value).encode()
        except ValueError:  # half a character, or a number of thousands of digits
            raise UnusableRow(UNREADABLE, f"has half a character in {name!r}", "save the text as UTF-8") from None

    def filled(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        value = record[match[1]]
        return value if isinstance(value, str) else json.dumps(value)

    text: str = _BRACES.sub(filled, wanted) if is_template else record[wanted]
    if not text.strip():
        raise UnusableRow(empty, f"gives no text for {wanted[:60]!r}", remedy)
    return text


PLAIN_FIELDS = RowFields()


def read_rows(path: Path | str) -> list[Row]:
    """Read a JSON-lines file of `{"prompt": …, "answer": …}` objects.

    Raises `DataError` naming the file and line for anything else, and for a file without rows.
    """
    file = user_path(path, DataError)
    try:
        text = read_limited(file, _MOST_BYTES).decode()
    except FileNotFoundError:
        raise DataError(f"no file at {str(path)!r}", "check the path of the JSON-lines file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file.name!r} could not be read as UTF-8 text", "save it as JSON lines") from error
    return parse_rows(text, file.name)


def parse_rows(text: str, name: str) -> list[Row]:
    """Parse JSON lines; `name` is used in messages only. See `read_rows`."""
    rows = []
    # split at line feeds only: JSON strings may hold the other characters that splitlines honours
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(PLAIN_FIELDS.row(parse_record(line)))
        except UnusableRow as error:
            raise DataError(f"line {number} of {name!r} {error.problem}", error.remedy) from error
    if not rows:
        raise DataError(f"{name!r} holds no rows", 'add lines like {"prompt": "2 + 2 =", "answer": "4"}')
    return rows


def parse_record(line: str) -> Any:
    """What one line of JSON lines holds; raises `UnusableRow`."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", type(error).__name__)
        raise UnusableRow(UNREADABLE, f"is not JSON ({reason})", "write one JSON object on each line") from error


def left_out_text(left_out: Mapping[str, int]) -> str:
    """Counts by reason as `3 rows left out: 2 too long, 1 unreadable`; empty when nothing was left out."""
    counts = {reason: count for reason, count in left_out.items() if count}
    if not counts:
        return ""
    total = sum(counts.values())
    named = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    return f"{total:,} {'row' if total == 1 else 'rows'} left out: {named}"


def choose(rows: Sequence[Row], count: int | None, *, seed: int | None = 0, start: int = 0) -> list[Row]:
    """A slice of rows.

    rows: all rows, in file order.
    count: rows to take; None for everything from `start` on.
    seed: of the shuffle before; None keeps file order.
    start: offset of the first row, after the shuffle.

    Raises `DataError` when the range is empty or asks for more rows than there are.
    """
    available = max(0, len(rows) - start)
    wanted = available if count is None else count
    if start < 0 or wanted < 1 or wanted > available:
        raise DataError(
            f"{wanted} rows from offset {start} were asked for, but there are {len(rows)}",
            "lower the number of examples or the start offset",
        )
    order = np.arange(len(rows)) if seed is None else np.random.default_rng(seed).permutation(len(rows))
    return [rows[index] for index in order[start : start + wanted]]


def shared_keys(first: Sequence[Row], second: Sequence[Row]) -> set[str]:
    """Content hashes that two slices have in common; tuning and testing need this to be empty."""
    return {row.key for row in first} & {row.key for row in second}
