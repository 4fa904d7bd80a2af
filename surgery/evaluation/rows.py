"""Prompt-and-answer rows put to variants: answer loss and greedy exact match."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import Calibration, Example
from surgery.errors import DataError
from surgery.evaluation.evaluation import BASELINE, Asked, Evaluation, Scores, row_scores
from surgery.model import Answered, Variant, VariantEngine
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from surgery.model import LiveModel

_EXTRA_TOKENS = 8


class RowEngine(Protocol):
    """What answers examples for all variants, such as `VariantEngine`."""

    def answer_losses(
        self, examples: Sequence[Example], *, control: Control = SILENT
    ) -> Mapping[str, Float64[ndarray, " example"]]: ...

    def answer(
        self, examples: Sequence[Example], *, max_new_tokens: int, control: Control = SILENT
    ) -> Mapping[str, Sequence[Answered]]: ...


def evaluate(
    live: "LiveModel",
    slice_: Calibration,
    variants: Mapping[str, Variant],
    *,
    batch_size: int = 32,
    generate: bool = True,
    control: Control = SILENT,
) -> Evaluation:
    """Score the unedited adapter and every variant (σ′ by module) on the same examples.

    All variants of up to `batch_size` examples run in one batch, fewer where memory asks for it. Without
    `generate` the exact match is NaN. `control` hears of examples over all variants; raises `Cancelled`.
    """
    if BASELINE in variants:
        raise DataError(f"a variant cannot be called {BASELINE!r}", "rename it")
    engine = VariantEngine(live, {BASELINE: None, **variants}, rows=batch_size * (1 + len(variants)))
    return answered(slice_.examples, engine, live.base.tokenizer, generate=generate, control=control)


def answered(
    examples: Sequence[Example],
    engine: RowEngine,
    tokenizer: Any,
    *,
    generate: bool = True,
    control: Control = SILENT,
) -> Evaluation:
    """What the engine's variants answer to encoded rows; see `evaluate`."""
    scores: dict[str, Scores] = {}
    if generate:
        limit = answer_limit(examples)
        for name, answers in engine.answer(examples, max_new_tokens=limit, control=control).items():
            tokens = [answer.tokens for answer in answers]
            texts = [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
            right = [float(t == e.answer.strip()) for t, e in zip(texts, examples, strict=True)]
            scores[name] = row_scores(np.array([answer.loss for answer in answers]), np.array(right), texts)
    else:
        for name, losses in engine.answer_losses(examples, control=control).items():
            scores[name] = row_scores(losses, np.full(len(examples), np.nan), ("",) * len(examples))
    prompts = tokenizer.batch_decode([list(e.prompt_ids) for e in examples], skip_special_tokens=True)
    asked = tuple(Asked(e.key, prompt, e.answer) for e, prompt in zip(examples, prompts, strict=True))
    return Evaluation(scores, asked)


def answer_limit(examples: Sequence[Example]) -> int:
    """Tokens that an answer to any of these rows may have: a few more than the longest reference."""
    return max(len(example.answer_ids) for example in examples) + _EXTRA_TOKENS
