"""Plain text cut into windows of tokens: a slice without questions, for cross-entropy and divergence per token.

All windows are equally long and begin `stride` tokens after each other; of each the last `stride` tokens count, after
the others as their context. So no token counts twice, each has at least window − stride tokens before it, and a mean
over windows is a mean over tokens. The first window − stride tokens of a text and a rest of less than a stride never
count.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

from surgery.data.encoding import Encoding
from surgery.data.example import Example
from surgery.data.examples import encode
from surgery.data.rows import Row
from surgery.errors import DataError
from surgery.files import digest, open_text, text_path

_MOST = 8 << 20  # characters


@dataclass(frozen=True)
class TextPlan:
    """Which text is cut into which windows, the first `limit` of them (None: all).

    `text` is a file or `demo:text`; `window` and `stride` are in tokens, what the tokenizer writes before a text
    counted among those of every window. `batch_size` is windows at a time. Raises `DataError` for values out of range.
    """

    text: str
    limit: int | None = None
    window: int = 128
    stride: int = 64
    batch_size: int = 8

    def __post_init__(self) -> None:
        if not 1 <= self.stride < self.window:
            raise DataError(
                f"windows of {self.window} tokens every {self.stride} were asked for",
                "let each begin 1 token or more after the last one, and fewer than it is long (--stride, --window)",
            )
        for name, value in (("windows", self.limit), ("windows at a time", self.batch_size)):
            if value is not None and value < 1:
                raise DataError(f"{value} {name} were asked for", "use 1 or more")


@dataclass(frozen=True)
class TextWindows:
    """A text as examples, whose answers are the tokens that count; `tokens` is how many the text has in all."""

    examples: tuple[Example, ...]
    tokens: int

    @property
    def counted(self) -> int:
        """How many tokens count."""
        return sum(len(example.answer_ids) for example in self.examples)

    @property
    def digest(self) -> str:
        """Identity of what the model sees: the token ids, in order."""
        return digest(json.dumps([e.prompt_ids, e.answer_ids]) for e in self.examples)


def read_text(source: str) -> str:
    """The text of a file or of `demo:text`; raises `DataError` for one that is empty, binary or too large."""
    file = text_path(source)
    with open_text(file) as opened:
        text = opened.read(_MOST + 1)
    if len(text) > _MOST:
        raise DataError(f"{file.name!r} has more than {_MOST:,} characters", "use a part of the text")
    if not text.strip():
        raise DataError(f"{file.name!r} holds no text", "name a file with some")
    odd = next((c for c in text if ord(c) < 32 and c not in "\n\r\t\f"), None)
    if odd is not None:
        raise DataError(
            f"{file.name!r} is no text: it holds the control character {odd!r}", "name a file of plain text"
        )
    return text


def text_windows(text: str, tokenizer: Any, plan: TextPlan, positions: int | None = None) -> TextWindows:
    """The windows of a text.

    tokenizer: of the model.
    plan: how long they are and where they begin.
    positions: tokens that the model has places for.

    Raises `DataError` for windows longer than the model and for a text shorter than a window.
    """
    if positions is not None and plan.window > positions:
        raise DataError(
            f"a window is {plan.window} tokens long, and the model has positions for {positions}",
            "use shorter windows (--window)",
        )
    ids = _ids(text, tokenizer)
    lead = ids[:1] if ids[0] == tokenizer.bos_token_id else ()
    body, room = ids[len(lead) :], plan.window - len(lead)
    if len(body) < room:
        raise DataError(
            f"the text has {len(ids)} tokens, fewer than a window of {plan.window}",
            "use a longer text, or shorter windows (--window, --stride)",
        )
    begins = range(0, len(body) - room + 1, plan.stride)[: plan.limit]
    found = [_example((*lead, *body[begin : begin + room]), plan.stride) for begin in begins]
    counted = tokenizer.batch_decode([list(each.answer_ids) for each in found])
    return TextWindows(
        tuple(replace(each, answer=own) for each, own in zip(found, counted, strict=True)), len(ids)
    )


def _ids(text: str, tokenizer: Any) -> tuple[int, ...]:
    """All tokens of a text, with the start that the tokenizer writes and without an end."""
    plain = Encoding("plain", eos=False, max_length=_MOST * 8)
    try:
        return encode([Row("", text)], tokenizer, plain).examples[0].tokens
    except DataError as error:
        raise DataError(
            f"the text cannot be cut into windows: it has hardly a token ({error.problem})", "use a longer text"
        ) from error


def _example(ids: tuple[int, ...], stride: int) -> Example:
    cut = len(ids) - stride
    return Example(digest([json.dumps(ids)]), ids[:cut], ids[cut:], "")
