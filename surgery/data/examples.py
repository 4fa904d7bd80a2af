"""Encoded calibration and evaluation examples: prompt + answer, teacher-forced (paper §4.3).

Labels are masked on the prompt, so the loss of an example is the mean over its answer tokens,
which include an optional separator space and end-of-sequence token.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from surgery.data.rows import TOO_LONG, Row
from surgery.errors import DataError
from surgery.files import digest

TEMPLATES = ("chat", "plain")
IGNORED = -100


@dataclass(frozen=True)
class Encoding:
    """Tokenisation of a row: chat template, end of sequence, longest length.

    `template`: `chat` renders the prompt as one user turn of the tokenizer's chat template,
    `plain` takes it as it stands. `separator` puts a space before the answer, `eos` an
    end-of-sequence token after it. `max_length` drops longer examples, counted in tokens.
    """

    template: str = "chat"
    separator: bool = True
    eos: bool = True
    max_length: int = 1024


@dataclass(frozen=True)
class Example:
    """One row as token ids; the answer ids carry the loss."""

    key: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    answer: str

    @property
    def length(self) -> int:
        return len(self.prompt_ids) + len(self.answer_ids)


@dataclass(frozen=True)
class Calibration:
    """Encoded examples in slice order, and how many rows were left out, by reason.

    Rows that are too long are counted among those chosen, all others in the whole source.
    """

    examples: tuple[Example, ...]
    encoding: Encoding
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """How many rows were left out, whatever the reason."""
        return sum(self.left_out.values())

    @property
    def digest(self) -> str:
        """Identity of what the model sees: the token ids, in order."""
        return digest(json.dumps([example.prompt_ids, example.answer_ids]) for example in self.examples)


def encode(
    rows: Sequence[Row], tokenizer: Any, encoding: Encoding, *, left_out: Mapping[str, int] | None = None
) -> Calibration:
    """Rows as token ids; prompt and answer are tokenised apart, so that the boundary is exact.

    rows: prompts and answers.
    tokenizer: of the base model.
    encoding: template, end of sequence and `max_length`, in tokens; longer rows are left out.
    left_out: rows that the source had to leave out before, counted by reason; those too long join them.

    Raises `DataError` when the template is unknown, the tokenizer has no chat template although
    one was asked for, or every row is longer than `max_length`.
    """
    examples = [_example(row, tokenizer, encoding) for row in rows]
    kept = tuple(example for example in examples if example.length <= encoding.max_length)
    if not kept:
        raise DataError(
            f"all {len(rows)} rows are longer than {encoding.max_length} tokens", "raise the length limit"
        )
    long = len(examples) - len(kept)
    return Calibration(kept, encoding, {**(left_out or {}), **({TOO_LONG: long} if long else {})})


def prompt_ids(text: str, tokenizer: Any, encoding: Encoding) -> list[int]:
    """The tokens that come before the answer. Raises `DataError` when the template cannot be used."""
    if encoding.template not in TEMPLATES:
        raise DataError(f"template {encoding.template!r} is not known", f"use one of {', '.join(TEMPLATES)}")
    if encoding.template == "chat" and not getattr(tokenizer, "chat_template", None):
        raise DataError("the tokenizer has no chat template", "use the plain template")
    if encoding.template == "chat":
        turn = [{"role": "user", "content": text}]
        try:
            rendered = tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # a template is a program of the model's, free to raise anything
            raise DataError(
                f"the chat template refuses a single user turn ({str(error)[:120]})", "use the plain template"
            ) from error
        # the template writes its own special tokens
        return list(tokenizer(rendered, add_special_tokens=False).input_ids)
    ids = list(tokenizer(text).input_ids)
    return ids[:-1] if ids and ids[-1] == tokenizer.eos_token_id else ids


def _example(row: Row, tokenizer: Any, encoding: Encoding) -> Example:
    before = prompt_ids(row.prompt, tokenizer, encoding)
    answer_text = (" " if encoding.separator else "") + row.answer
    answer_ids = tokenizer(answer_text, add_special_tokens=False).input_ids
    if encoding.eos and tokenizer.eos_token_id is not None:
        answer_ids = [*answer_ids, tokenizer.eos_token_id]
    if not before or not answer_ids:
        empty = "prompt" if not before else "answer"
        raise DataError(
            f"the {empty} {getattr(row, empty)[:40]!r} has no tokens in this tokenizer", "remove the row"
        )
    return Example(row.key, tuple(before), tuple(answer_ids), row.answer)
