"""Means over the parts of a slice that count the same whatever their size, such as the tasks of a group."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.errors import DataError
from surgery.evaluation.resampling import resampled_means


def macro_mean(numbers: Float64[ndarray, " example"], parts: Sequence[str]) -> float:
    """The mean of the parts' own means. `parts` names the part of every example."""
    return float(np.mean([own.mean() for own in parts_of(numbers, parts)]))


def macro_error(numbers: Float64[ndarray, " example"], parts: Sequence[str]) -> float:
    """The standard error of the macro mean; NaN where a part has one example alone."""
    split = parts_of(numbers, parts)
    variances = [own.var(ddof=1) / own.size if own.size > 1 else np.nan for own in split]
    return float(np.sqrt(np.sum(variances)) / len(split))


def macro_resamples(
    numbers: Float64[ndarray, " example"], parts: Sequence[str], count: int, rng: np.random.Generator
) -> Float64[ndarray, " resample"]:
    """Macro means of `count` bootstrap resamples, each drawn within the parts; what a part is, is not resampled."""
    split = parts_of(numbers, parts)
    total = np.zeros(count)
    for own in split:
        total += resampled_means(own, count, rng)
    return total / len(split)


def parts_of(numbers: ndarray, parts: Sequence[str]) -> list[ndarray]:
    """The rows of each part, in the order in which the parts first come.

    numbers: (example, …), of which the rows are split.
    parts: the name of every example's part; raises `DataError` where these are not as many.
    """
    if len(parts) != len(numbers):
        raise DataError(
            f"{len(parts)} names of parts for {len(numbers)} examples", "name the part of every example"
        )
    names = np.array(parts, dtype=object)
    return [numbers[names == name] for name in dict.fromkeys(names)]
