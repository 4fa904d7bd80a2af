"""Rows of prompt and answer, reasons for leaving records out, seeded slices."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from surgery.errors import DataError
from surgery.files import digest

# why a row is left out
TOO_LONG, NO_PROMPT, NO_ANSWER = "too long", "empty prompt", "empty answer"
NO_FIELD, UNREADABLE, NO_TURN = "missing field", "unreadable", "no assistant's turn"
NO_TEXT, ODD_ROLE, TOOLS, NOT_TEXT = "empty text", "unknown role", "with tools", "more than text"
NOT_RENDERED = "refused by the template"


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

    `labels` is what a classifier is to say of `texts`: one label of a text or of two, or a tag of each word. They are
    empty for other rows; `prompt` and `answer` are then what they say, joined.
    """

    prompt: str
    answer: str
    messages: tuple[Message, ...] = ()
    texts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, messages: Sequence[Message]) -> "Row":
        """The row of a conversation, at least one message, that ends with the assistant's answer."""
        *before, answer = messages
        return cls("\n".join(message.content for message in before), answer.content, tuple(messages))

    @classmethod
    def labelled(cls, texts: Sequence[str], labels: Sequence[str]) -> "Row":
        """The row of a text, or two, and its label, or of words and a tag for each; at least one of each."""
        joint = " " if len(labels) > 1 else "\n"
        return cls(joint.join(texts), " ".join(labels), (), tuple(texts), tuple(labels))

    @property
    def key(self) -> str:
        """Content hash: two slices share an example exactly when they share a key.

        One user's turn and its answer are the same example as that prompt with that answer.
        """
        if [message.role for message in self.messages] in ([], ["user", "assistant"]):
            return digest([self.prompt.strip(), self.answer.strip()])[:32]
        return digest(text for each in self.messages for text in (each.role, each.content.strip()))[:32]


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
