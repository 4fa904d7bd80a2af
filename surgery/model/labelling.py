"""One text as every variant of a classifier labels it, written out for a reader."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from surgery.adapter import TOKEN_CLS
from surgery.data import IGNORED, Encoding, Row
from surgery.errors import DataError
from surgery.model.engine import VariantEngine
from surgery.model.variant_rows import Variant

if TYPE_CHECKING:
    from surgery.model.live_model import LiveModel

_LIKELIEST = 5


def labelled_text(
    live: "LiveModel", text: str, variants: Mapping[str, Variant | None], encoding: Encoding
) -> dict[str, str]:
    """What every variant says of a text: its likeliest labels with their probabilities, or a tag for each word.

    live: holds the adapter's own σ afterwards.
    text: its words are what stands between blanks.
    variants: σ′ by module, None for the unedited adapter.
    encoding: how the text becomes tokens; one of more than `max_length` is refused.

    Raises `DataError` for a text that is empty or too long.
    """
    engine, labels = VariantEngine(live, variants), live.base.labels
    if live.base.task == TOKEN_CLS:
        words = text.split()
        (example,) = live.encode([Row.labelled(words, labels[:1] * len(words))], encoding).examples
        if sum(label != IGNORED for label in example.answer_ids) < len(words):
            raise DataError("a word has no token in this tokenizer", "take out what is no letter and no sign")
        said = engine.classify([example])
        return {name: _tags(words, found[0].labels, labels) for name, found in said.items()}
    (example,) = live.encode([Row.labelled((text,), labels[:1])], encoding).examples
    every = [replace(example, answer_ids=(number,)) for number in range(len(labels))]
    losses = engine.answer_losses(every)
    return {name: _shares(found.tolist(), labels) for name, found in losses.items()}


def _shares(losses: Sequence[float], labels: Sequence[str]) -> str:
    """The likeliest labels with their probabilities, a line each; `losses` are the cross-entropy of every label."""
    order = sorted(range(len(labels)), key=lambda number: losses[number])[:_LIKELIEST]
    return "\n".join(f"{labels[number]}  {math.exp(-losses[number]):.1%}" for number in order)


def _tags(words: Sequence[str], numbers: Sequence[int], labels: Sequence[str]) -> str:
    return "\n".join(f"{word}  {labels[number]}" for word, number in zip(words, numbers, strict=True))
