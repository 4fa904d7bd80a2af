"""Encoded calibration and evaluation examples: prompt + answer, teacher-forced (paper §4.3).

The ids of a row are those that training sees: the whole conversation rendered and tokenised at once, cut where the
prompt ends. Labels are masked on the prompt, so the loss of an example is the mean over its answer tokens, which
include the end of turn that the template writes, or an end-of-sequence token.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Protocol

from surgery.adapter import CAUSAL_LM, SEQ_2_SEQ_LM, TASKS, TOKEN_CLS
from surgery.data.encoding import APART, TOGETHER, Encoding
from surgery.data.example import CLASSIFIERS, Example
from surgery.data.label_encoding import Head, LabelEncoder
from surgery.data.rendering import ChatTemplate, chat_template, markers
from surgery.data.rows import NO_ANSWER, NO_PROMPT, NOT_RENDERED, TOO_LONG, UNREADABLE, Message, Row, UnusableRow
from surgery.data.sequence_pairs import PairEncoder
from surgery.errors import DataError
from surgery.files import digest

BEYOND_POSITIONS = "beyond the model's positions"


@dataclass(frozen=True)
class Calibration:
    """Encoded examples in slice order, and how many rows were left out, by reason.

    Rows that were left out for their tokens are counted among those tried, all others in the whole source;
    `problem` says what is wrong with the first of them. `tried` counts the rows that were looked at, spare ones after
    all others. `sampled` is the seed of answers that the model draws itself, at the positions of the rows' own; None
    for theirs.
    """

    examples: tuple[Example, ...]
    encoding: Encoding
    left_out: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""
    tried: int = 0
    sampled: int | None = None

    @property
    def dropped(self) -> int:
        """How many rows were left out, whatever the reason."""
        return sum(self.left_out.values())

    @property
    def digest(self) -> str:
        """Identity of what the model sees: the token ids, in order."""
        return digest(
            json.dumps([e.prompt_ids, e.answer_ids, *([e.segments] if e.segments else [])]) for e in self.examples
        )


def encode(
    rows: Sequence[Row],
    tokenizer: Any,
    encoding: Encoding,
    *,
    left_out: Mapping[str, int] | None = None,
    spare: Iterable[Row] = (),
    positions: int | None = None,
    task: str = CAUSAL_LM,
    labels: Sequence[str] = (),
) -> Calibration:
    """Rows as token ids, each as training for the task tokenises it: for a causal language model its whole rendering.

    rows: prompts and answers, or conversations.
    tokenizer: of the model, or of the adapter.
    encoding: template, end of turn and `max_length`, in tokens; longer rows are left out.
    left_out: rows that the source had to leave out before, counted by reason; those left out here join them.
    spare: rows that take the place of those left out here, in this order, as far as they are needed.
    positions: tokens that the model has places for; longer rows are left out.
    task: one of `TASKS`.
    labels: of a classifier, by number.

    Raises `DataError` when the template cannot be used at all, for labels that the classifier does not know, and
    when no row is left.
    """
    encoding = encoding.read_for(task)
    if task in CLASSIFIERS:  # what labels mean is told by all rows that may be used
        spare = list(spare)
        encoder = _encoder(tokenizer, encoding, task, labels, [*rows, *spare])
    else:
        encoder = _encoder(tokenizer, encoding, task)
    counted = dict(left_out or {})
    kept: list[Example] = []
    first: UnusableRow | None = None
    tried = 0
    for row in chain(rows, spare):
        if tried == len(rows) and not kept:
            break  # what is wrong with all of them is wrong with the rest
        tried += 1
        try:
            kept.append(_fitting(encoder.example(row), encoding.max_length, positions))
        except UnusableRow as error:
            first = first or error
            counted[error.reason] = counted.get(error.reason, 0) + 1
        if len(kept) == len(rows):
            break
    if not kept:
        if first is None:
            raise DataError("no rows were given", "choose a slice with one row or more")
        raise DataError(f"none of {len(rows)} rows can be used: {first.problem}", first.remedy)
    return Calibration(tuple(kept), encoding, counted, first.problem if first else "", tried)


def prompt_ids(text: str, tokenizer: Any, encoding: Encoding, task: str = CAUSAL_LM) -> list[int]:
    """The tokens that come before the answer to a text. Raises `DataError` when the template cannot be used."""
    return _encoder(tokenizer, encoding.read_for(task), task).before(text)


def specimen(tokenizer: Any, encoding: Encoding, task: str = CAUSAL_LM) -> Example:
    """A row of no account under an encoding, which tells how answers open and end: `opening`, `end` and `stop`.

    Raises `DataError` when the template cannot be used.
    """
    try:
        return _encoder(tokenizer, encoding.read_for(task), task).example(Row("?", "!"))
    except UnusableRow:  # its vocabulary may have neither sign
        return Example("", (), (), "", task=task)


class Encoder(Protocol):
    """What turns rows into examples of one task, made once for all of them."""

    def before(self, text: str) -> list[int]:
        """The ids that the model reads before it answers a text."""

    def example(self, row: Row) -> Example:
        """The example of a row; raises `UnusableRow` for one that cannot be one."""


def _encoder(
    tokenizer: Any, encoding: Encoding, task: str, labels: Sequence[str] = (), rows: Sequence[Row] = ()
) -> Encoder:
    """The encoder of a task; raises `DataError` where the encoding cannot be used, and for a task without one."""
    if task == CAUSAL_LM:
        return _TextEncoder.of(tokenizer, encoding)
    if task == SEQ_2_SEQ_LM:
        return PairEncoder.of(tokenizer, encoding)
    if task in CLASSIFIERS:
        return LabelEncoder(tokenizer, Head(tuple(labels), task == TOKEN_CLS), encoding, rows)
    raise DataError(f"rows of a {TASKS.get(task, task)} are not read yet", "edit and export work without rows")


@dataclass(frozen=True)
class _TextEncoder:
    """What turns rows into examples, made once for all of them; `template` is None where texts are taken as they stand."""

    tokenizer: Any
    encoding: Encoding
    template: ChatTemplate | None
    markers: frozenset[int]

    @staticmethod
    def of(tokenizer: Any, encoding: Encoding) -> "_TextEncoder":
        if encoding.tokenised not in (TOGETHER, APART):
            raise DataError(f"tokenised {encoding.tokenised!r} is not known", f"use {TOGETHER} or {APART}")
        template = None if encoding.template == "plain" else chat_template(tokenizer, encoding)
        return _TextEncoder(tokenizer, encoding, template, frozenset(markers(tokenizer).values()))

    def before(self, text: str) -> list[int]:
        """The ids before the answer to a text."""
        if self.template is not None:
            return self._ids(self.template.apply([Message("user", text)], open_turn=True))
        return self._text_ids(text)

    def example(self, row: Row) -> Example:
        """The example of a row; raises `UnusableRow` for one that has no tokens or that the template refuses."""
        if row.labels:
            raise UnusableRow(
                UNREADABLE,
                "a row is a text with a label, and the adapter is of a language model",
                "name the fields that hold prompt and answer, a number in braces (--prompt-field text "
                "--answer-field {label})",
            )
        if self.encoding.tokenised == APART:
            before, answer, stop = self._apart(row)
        elif self.template is None or not (row.prompt or row.messages):
            before, answer, stop = self._as_text(row)
        else:
            before, answer, stop = self._as_conversation(row, self.template)
        if not before or not answer:
            reason, empty = (NO_PROMPT, "prompt") if not before else (NO_ANSWER, "answer")
            text = getattr(row, empty)[:40]
            raise UnusableRow(reason, f"the {empty} {text!r} has no tokens in this tokenizer", "remove the row")
        ends = self.markers | ({self.tokenizer.convert_tokens_to_ids(stop)} if stop else set())
        end = answer[-1] if answer[-1] in ends else None
        return Example(row.key, tuple(before), tuple(answer), row.answer, end, "" if end is not None else stop)

    def _as_conversation(self, row: Row, template: ChatTemplate) -> tuple[list[int], list[int], str]:
        """Ids of the rendered conversation before and from the cut, and the text of its end of turn."""
        *before, answer = row.messages or (Message("user", row.prompt), Message("assistant", row.answer))
        try:
            text = template.render([*before, Message(answer.role, self._separator + answer.content)])
        except DataError as error:
            raise UnusableRow(NOT_RENDERED, error.problem, error.remedy) from error
        # the template writes its own special tokens
        whole = self._ids(text.whole[: text.end if self.encoding.eos else text.content_end])
        cut = _common_length(self._ids(text.prompt), whole)
        return whole[:cut], whole[cut:], text.stop if self.encoding.eos else ""

    def _as_text(self, row: Row) -> tuple[list[int], list[int], str]:
        """Ids of prompt and answer as one text, before and from the cut; of a text alone all but the first are scored."""
        if row.messages:
            raise UnusableRow(
                NOT_RENDERED,
                "a row is a conversation, and the plain template has no roles",
                "use the chat template (--template chat), or a template file",
            )
        whole = self._text_ids(row.prompt + (self._separator if row.prompt else "") + row.answer)
        eos = self.tokenizer.eos_token_id
        if self.encoding.eos and eos is not None and (not whole or whole[-1] not in self.markers):
            whole.append(eos)
        cut = _common_length(self._text_ids(row.prompt), whole) if row.prompt else 1
        return whole[:cut], whole[cut:], ""

    def _apart(self, row: Row) -> tuple[list[int], list[int], str]:
        """Prompt and answer tokenised by themselves, as versions before 2 of the recipe did."""
        eos = self.tokenizer.eos_token_id
        if self.template is None:
            before = list(self.tokenizer(row.prompt).input_ids)
            before = before[:-1] if before and before[-1] == eos else before
        else:
            before = self.before(row.prompt)
        answer = self._ids(self._separator + row.answer)
        if self.encoding.eos and eos is not None:
            answer.append(eos)
        return before, answer, ""

    @property
    def _separator(self) -> str:
        return " " if self.encoding.separator else ""

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def _text_ids(self, text: str) -> list[int]:
        """A text with the start that the tokenizer writes, unless it has one, and without the end that it may write."""
        bos, eos = getattr(self.tokenizer, "bos_token", None), self.tokenizer.eos_token_id
        own = self._ids(text)
        if bos and text.startswith(bos):
            return own
        ids = list(self.tokenizer(text).input_ids)
        return ids[:-1] if ids and ids[-1] == eos and own[-1:] != [eos] else ids


def _fitting(example: Example, max_length: int, positions: int | None) -> Example:
    if positions is not None and example.span > positions:
        raise UnusableRow(
            BEYOND_POSITIONS,
            f"a row is {example.span} tokens long, and the model has positions for {positions}",
            "shorten the rows, or choose others",
        )
    if example.length > max_length:
        raise UnusableRow(
            TOO_LONG,
            f"a row is {example.length} tokens long, and the limit is {max_length}",
            "raise the length limit (--max-length)",
        )
    return example


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids both begin with."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
