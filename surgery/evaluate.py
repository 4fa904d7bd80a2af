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

from surgery.calibration import Batch, Calibration, Example, run_batches
from surgery.errors import Cancelled, DataError
from surgery.sensitivity import Progress, answer_losses, padding_id

if TYPE_CHECKING:
    from surgery.live import LiveModel

BASELINE = "unedited"
_RESAMPLES = 5000
_BLOCK = 2_000_000
_EXTRA_TOKENS = 8

Variant = Mapping[str, Float64[ndarray, "rank"]]


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

    Without `generate` the exact match is NaN. `progress(done, total)` counts examples over all
    variants; raises `Cancelled` when `cancelled()`.
    """
    if BASELINE in variants:
        raise DataError(f"a variant cannot be called {BASELINE!r}", "rename it")
    everything: dict[str, Variant | None] = {BASELINE: None, **variants}
    total = len(everything) * len(slice_.examples)
    scores = {}
    try:
        for position, (name, sigma) in enumerate(everything.items()):
            live.set_sigma(sigma)
            done = position * len(slice_.examples)

            def report(count: int, before: int = done) -> None:
                if cancelled is not None and cancelled():
                    raise Cancelled
                if progress is not None:
                    progress(before + count, total)

            scores[name] = score(live, slice_.examples, batch_size, generate, report)
    finally:
        live.set_sigma(None)
    return Evaluation(scores, slice_.examples)


def score(
    live: "LiveModel",
    examples: Sequence[Example],
    batch_size: int,
    generate: bool,
    report: Callable[[int], None] = lambda count: None,
) -> Scores:
    """Loss and greedy answers at the σ the live model holds now."""
    import torch

    from surgery.prompts import Prompts

    losses = np.zeros(len(examples))
    answers = [""] * len(examples)
    limit = max(len(example.answer_ids) for example in examples) + _EXTRA_TOKENS
    done = 0
    report(0)

    def step(batch: Batch) -> None:
        nonlocal done
        rows = list(batch.indices)
        if generate:
            prompts = Prompts(live, [examples[i] for i in rows])
            losses[rows] = prompts.answer_losses().double().cpu().numpy()
            for row, text in zip(rows, prompts.greedy_answers(limit), strict=True):
                answers[row] = text
        else:
            losses[rows] = answer_losses(live.model, batch).double().cpu().numpy()
        done += len(rows)
        report(done)

    with torch.inference_mode():
        run_batches(examples, batch_size, padding_id(live.base.tokenizer), step)
    exact = np.full(len(examples), np.nan)
    if generate:
        exact = np.array([float(a == e.answer.strip()) for a, e in zip(answers, examples, strict=True)])
    return Scores(losses, exact, tuple(answers))


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
