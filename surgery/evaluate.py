"""Held-out effect of variants: answer loss and greedy exact match, paired with the unedited adapter.

Every variant answers the same examples, so the effect is a mean of per-example differences; its
interval is a 95 % paired percentile bootstrap. An interval that holds zero is noise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.calibration import Calibration, Example
from surgery.engine import Variant as Variant
from surgery.engine import VariantEngine
from surgery.errors import DataError
from surgery.sensitivity import Progress

if TYPE_CHECKING:
    from surgery.live import LiveModel

BASELINE = "unedited"
_RESAMPLES = 5000
_BLOCK = 2_000_000
_EXTRA_TOKENS = 8


@dataclass(frozen=True)
class Scores:
    """One variant on every example: mean answer-token loss (nats), exact match (0 or 1), answers."""

    loss: Float64[ndarray, "example"]
    exact: Float64[ndarray, "example"]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Effect:
    """Paired difference to the baseline: mean, standard error and 95 % bootstrap interval."""

    mean: float
    standard_error: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Evaluation:
    """Scores of all variants on one slice, the unedited adapter first under `BASELINE`."""

    scores: Mapping[str, Scores]
    examples: tuple[Example, ...]

    def effect(self, name: str, measure: str = "loss") -> Effect:
        """Effect of variant `name` on `loss` or `exact`."""
        return self._effects[name, measure]

    @cached_property
    def _effects(self) -> dict[tuple[str, str], Effect]:
        """Resampled once: a page asks for these on every run."""
        before = self.scores[BASELINE]
        return {
            (name, measure): paired_effect(getattr(before, measure), getattr(after, measure))
            for name, after in self.scores.items()
            for measure in ("loss", "exact")
        }


def evaluate(
    live: "LiveModel",
    slice_: Calibration,
    variants: Mapping[str, Variant],
    *,
    batch_size: int = 32,
    generate: bool = True,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Evaluation:
    """Score the unedited adapter and every variant (σ′ by module) on the same examples.

    All variants of up to `batch_size` examples run in one batch, fewer where memory asks for it. Without
    `generate` the exact match is NaN. `progress(done, total)` counts examples over all variants; raises
    `Cancelled` when `cancelled()`.
    """
    if BASELINE in variants:
        raise DataError(f"a variant cannot be called {BASELINE!r}", "rename it")
    everything: dict[str, Variant | None] = {BASELINE: None, **variants}
    scores = score(live, slice_.examples, everything, batch_size, generate, progress=progress, cancelled=cancelled)
    return Evaluation(scores, slice_.examples)


def score(
    live: "LiveModel",
    examples: Sequence[Example],
    variants: Mapping[str, Variant | None],
    batch_size: int,
    generate: bool,
    *,
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> dict[str, Scores]:
    """Loss and greedy answers of every variant, None for the unedited adapter; see `evaluate`."""
    engine = VariantEngine(live, variants, rows=batch_size * len(variants))
    if not generate:
        losses = engine.answer_losses(examples, progress=progress, cancelled=cancelled)
        unknown = np.full(len(examples), np.nan)
        return {name: Scores(found, unknown, ("",) * len(examples)) for name, found in losses.items()}
    limit = max(len(example.answer_ids) for example in examples) + _EXTRA_TOKENS
    answered = engine.answer(examples, max_new_tokens=limit, progress=progress, cancelled=cancelled)
    scores = {}
    for name, answers in answered.items():
        tokens = [answer.tokens for answer in answers]
        texts = [t.strip() for t in live.base.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
        exact = np.array([float(t == e.answer.strip()) for t, e in zip(texts, examples, strict=True)])
        scores[name] = Scores(np.array([answer.loss for answer in answers]), exact, tuple(texts))
    return scores


def paired_effect(
    baseline: Float64[ndarray, "example"], variant: Float64[ndarray, "example"], *, seed: int = 0
) -> Effect:
    """Mean difference, its standard error and a seeded 95 % percentile bootstrap interval."""
    difference = variant - baseline
    n = difference.size
    if n < 2:
        return Effect(float(difference.mean()), float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    # drawn in blocks, so that a large slice does not take gigabytes of indices
    block = max(1, _BLOCK // n)
    sizes = [min(block, _RESAMPLES - first) for first in range(0, _RESAMPLES, block)]
    means = np.concatenate([difference[rng.integers(n, size=(size, n))].mean(axis=1) for size in sizes])
    low, high = np.quantile(means, (0.025, 0.975))
    error = float(difference.std(ddof=1) / np.sqrt(n))
    return Effect(float(difference.mean()), error, float(low), float(high))
