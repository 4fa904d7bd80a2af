"""Means over the parts of a slice that count the same whatever their size, such as the tasks of a group."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.errors import DataError

_BLOCK = 2_000_000


def macro_mean(numbers: Float64[ndarray, " example"], parts: Sequence[str]) -> float:
    """The mean of the parts' own means. `parts` names the part of every example."""
    return float(np.mean([own.mean() for own in _by_part(numbers, parts)]))


def macro_error(numbers: Float64[ndarray, " example"], parts: Sequence[str]) -> float:
    """The standard error of the macro mean; NaN where a part has one example alone."""
    split = _by_part(numbers, parts)
    variances = [own.var(ddof=1) / own.size if own.size > 1 else np.nan for own in split]
    return float(np.sqrt(np.sum(variances)) / len(split))


def macro_resamples(
    numbers: Float64[ndarray, " example"], parts: Sequence[str], count: int, rng: np.random.Generator
) -> Float64[ndarray, " resample"]:
    """Macro means of `count` bootstrap resamples, each drawn within the parts; what a part is, is not resampled."""
    split = _by_part(numbers, parts)
    total = np.zeros(count)
    for own in split:
        # drawn in blocks, so that a large part does not take gigabytes of indices
        block = max(1, _BLOCK // own.size)
        sizes = [min(block, count - first) for first in range(0, count, block)]
        total += np.concatenate(
            [own[rng.integers(own.size, size=(size, own.size))].mean(axis=1) for size in sizes]
        )
    return total / len(split)


def _by_part(numbers: Float64[ndarray, " example"], parts: Sequence[str]) -> list[Float64[ndarray, " part"]]:
    if len(parts) != numbers.size:
        raise DataError(
            f"{len(parts)} names of parts for {numbers.size} examples", "name the part of every example"
        )
    return list(_split(numbers, np.array(parts, dtype=object)))


def _split(numbers: Float64[ndarray, " example"], names: ndarray) -> Iterator[Float64[ndarray, " part"]]:
    for name in dict.fromkeys(names):
        yield numbers[names == name]
