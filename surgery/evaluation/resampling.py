"""Bootstrap resamples of means: rows drawn with replacement, in blocks that bound what the indices take."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

RESAMPLES = 5000
_BLOCK = 2_000_000


def resampled_means(
    numbers: Float64[ndarray, " example"], count: int, rng: np.random.Generator
) -> Float64[ndarray, " resample"]:
    """Means of `count` bootstrap resamples of the numbers; `rng` is drawn from in the order of the resamples."""
    if not count:
        return np.zeros(0)
    return np.concatenate([numbers[drawn].mean(axis=1) for drawn in drawn_rows(numbers.size, count, rng)])


def drawn_rows(
    examples: int, count: int, rng: np.random.Generator
) -> Iterator[Int64[ndarray, "resample example"]]:
    """The rows of `count` resamples of so many examples, by number, in blocks of two million or fewer."""
    block = max(1, _BLOCK // examples)
    for first in range(0, count, block):
        yield rng.integers(examples, size=(min(block, count - first), examples))
