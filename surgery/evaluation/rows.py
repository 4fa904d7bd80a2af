"""Prompt-and-answer rows put to variants: answer loss and greedy exact match."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import Calibration, Example
from surgery.errors import DataError
from surgery.evaluation.evaluation import BASELINE, Evaluation, Sample, Scores, row_scores
from surgery.model import Answered, Variant, VariantEngine
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from surgery.model import LiveModel

_EXTRA_TOKENS = 8


class RowEngine(Protocol):
    """What answers examples for all variants, such as `VariantEngine`; `notes` say how it read them."""

    @property
    def notes(self) -> tuple[str, ...]: ...

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
    """Scores of the unedited adapter and of every variant on the same encoded rows.

    live: the adapter in its running base model.
    slice_: encoded rows.
    variants: σ′ by module, by the name of the variant.
    batch_size: examples of a batch at most; all variants of them run at once, fewer where memory asks for it.
    generate: whether to generate answers; without, the exact match is NaN.
    control: hears of examples over all variants.

    Raises `DataError` for a variant called as the unedited adapter is, and `Cancelled`.
    """
    if BASELINE in variants:
        raise DataError(f"a variant cannot be called {BASELINE!r}", "rename it")
    engine = VariantEngine(live, {BASELINE: None, **variants}, rows=batch_size * (1 + len(variants)))
    tokenizer = live.tokenizer_for(slice_.encoding)
    return answered(slice_.examples, engine, tokenizer, generate=generate, control=control)


def answered(
    examples: Sequence[Example],
    engine: RowEngine,
    tokenizer: Any,
    *,
    generate: bool = True,
    control: Control = SILENT,
) -> Evaluation:
    """Scores of an engine's variants on encoded rows.

    examples: encoded rows.
    engine: answers for all its variants at once.
    tokenizer: of the base model; decodes prompts and answers.
    generate: whether to generate answers; without, the exact match is NaN.
    control: hears of examples over all variants; raises `Cancelled`.
    """
    scores: dict[str, Scores] = {}
    if generate:
        limit = answer_limit(examples)
        references = _references(examples, tokenizer)
        for name, answers in engine.answer(examples, max_new_tokens=limit, control=control).items():
            tokens = [answer.tokens for answer in answers]
            texts = [text.strip() for text in tokenizer.batch_decode(tokens, skip_special_tokens=True)]
            right = [float(t in accepted) for t, accepted in zip(texts, references, strict=True)]
            scores[name] = row_scores(np.array([answer.loss for answer in answers]), np.array(right), texts)
    else:
        for name, losses in engine.answer_losses(examples, control=control).items():
            scores[name] = row_scores(losses, np.full(len(examples), np.nan), ("",) * len(examples))
    prompts = tokenizer.batch_decode([list(e.prompt_ids) for e in examples], skip_special_tokens=True)
    samples = tuple(Sample(e.key, prompt, e.answer) for e, prompt in zip(examples, prompts, strict=True))
    return Evaluation(scores, samples, notes=engine.notes)


def _references(examples: Sequence[Example], tokenizer: Any) -> list[frozenset[str]]:
    """The texts that count as right: a row's answer, and all that its template writes as the answer, such as an
    empty thought before it.
    """
    rendered = tokenizer.batch_decode([list(e.answer_ids) for e in examples], skip_special_tokens=True)
    return [
        frozenset((e.answer.strip(), text.removesuffix(e.stop).strip()))
        for e, text in zip(examples, rendered, strict=True)
    ]


def answer_limit(examples: Sequence[Example]) -> int:
    """Tokens that an answer to any of these rows may have: a few more than the longest reference."""
    return max(len(example.answer_ids) for example in examples) + _EXTRA_TOKENS
