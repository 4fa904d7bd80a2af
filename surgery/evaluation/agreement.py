"""How well what was expected of several changes agrees with what was measured of them, and how well it could.

Both are means over examples. Where these are not the same ones, a correlation is drawn down by the noise of both
(Spearman 1904). How far is told by the correlation of two halves of the examples, stepped up to all of them by the
Spearman–Brown formula: a faultless expectation would reach √(reliability of the expected · of the measured), the
ceiling.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from surgery.errors import DataError
from surgery.sensitivity import rank_correlation

_RESAMPLES = 2000
_SPLITS = 200
_FEWEST = 3  # changes, below which a correlation says nothing


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % percentile interval over resamples; NaN where it cannot be told."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Agreement:
    """Expected against measured means of several changes, in nats per answer token.

    `spearman` and `pearson` are their correlations and `slope` that of measured on expected through the origin: 1
    where changes come as large as expected. Their intervals are of resamples of the changes and of the examples on
    both sides, so they cover the correlation at this much noise. `signs` is the share of changes with the expected
    sign, and `clear` the number of changes whose measured mean is 1.96 standard errors from 0. `expected_reliability`
    and `measured_reliability` are the rank correlations of halves of the examples, stepped up to all. `ceiling` is the
    Spearman that a faultless expectation would reach with noise of that size: 0 where one of the two does not repeat,
    and 1 where both are `paired`, of the same examples, whose noise they share.
    """

    changes: int
    spearman: Estimate
    pearson: Estimate
    slope: Estimate
    signs: float
    clear: int
    expected_reliability: float
    measured_reliability: float
    paired: bool = False

    @property
    def ceiling(self) -> float:
        if self.paired:
            return 1.0
        found = np.maximum([self.expected_reliability, self.measured_reliability], 0.0)
        return float(np.sqrt(found.prod()))


def agreement(
    expected: Float64[ndarray, "change seen"],
    measured: Float64[ndarray, "change held"],
    *,
    groups: Sequence[Sequence[int]] | None = None,
    paired: bool = False,
    seed: int = 0,
) -> Agreement:
    """Whether the means of what is expected rank the changes as the means of what is measured do.

    expected: of every change, by the examples that foretell it.
    measured: of every change, by the examples that it was measured on.
    groups: indices of changes that were drawn apart and are resampled apart; all together without it.
    paired: whether both are of the same examples, in the same order, which are then drawn together.
    seed: of the resamples and the halves.

    Raises `DataError` for fewer than three changes or two examples on one side, for pairs that are none, and for
    numbers that are not finite.
    """
    _check(expected, measured, paired)
    rng = np.random.default_rng(seed)
    weights = [_weights(each.shape[1], _RESAMPLES, rng) for each in (expected, measured)]
    told, seen = weights[0] @ expected.T, weights[0 if paired else 1] @ measured.T
    drawn = _resampled(groups or [range(len(expected))], _RESAMPLES, rng)
    draws = [np.take_along_axis(each, drawn, axis=1) for each in (told, seen)]
    means = expected.mean(axis=1), measured.mean(axis=1)
    errors = measured.std(axis=1, ddof=1) / np.sqrt(measured.shape[1])
    rows = [each[np.newaxis] for each in means]
    numbers = rank_correlation, _linear_correlation, _slope
    spearman, pearson, slope = (_estimate(of(*rows), of(*draws)) for of in numbers)
    return Agreement(
        len(expected),
        spearman,
        pearson,
        slope,
        signs=float((np.sign(means[0]) == np.sign(means[1])).mean()),
        clear=int((np.abs(means[1]) > 1.96 * errors).sum()),
        expected_reliability=_reliability(expected, rng),
        measured_reliability=_reliability(measured, rng),
        paired=paired,
    )


def _reliability(values: Float64[ndarray, "change example"], rng: np.random.Generator) -> float:
    """Spearman's correlation of the changes' means over two halves of the examples, stepped up to all examples.

    values: of every change, by example.
    rng: draws the halves; the correlation is the mean over 200 of them.

    2c/(1 + c) of a correlation c above 0 (Spearman–Brown), exact for Pearson's; c itself below, where nothing repeats.
    NaN where the changes all tie.
    """
    n = values.shape[1]
    order = rng.permuted(np.tile(np.arange(n), (_SPLITS, 1)), axis=1)
    halves = [np.zeros((_SPLITS, n)) for _ in range(2)]
    for half, own in zip(halves, (order[:, : n // 2], order[:, n // 2 : 2 * (n // 2)]), strict=True):
        np.put_along_axis(half, own, 1 / (n // 2), axis=1)
    first, second = (half @ values.T for half in halves)
    between = float(rank_correlation(first, second).mean())
    return 2 * between / (1 + between) if between > 0 else between


def _linear_correlation(
    left: Float64[ndarray, "*draw item"], right: Float64[ndarray, "*draw item"]
) -> Float64[ndarray, "*draw"]:
    """Pearson's correlation along the last axis; NaN where one side is constant."""
    x, y = (each - each.mean(axis=-1, keepdims=True) for each in (left, right))
    return _ratio((x * y).sum(axis=-1), np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1)))


def _slope(
    expected: Float64[ndarray, "*draw item"], measured: Float64[ndarray, "*draw item"]
) -> Float64[ndarray, "*draw"]:
    return _ratio((expected * measured).sum(axis=-1), (expected**2).sum(axis=-1))


def _ratio(above: Float64[ndarray, "*draw"], below: Float64[ndarray, "*draw"]) -> Float64[ndarray, "*draw"]:
    found: ndarray = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return found


def _weights(examples: int, count: int, rng: np.random.Generator) -> Float64[ndarray, "draw example"]:
    """The share that each example has in a mean over as many drawn with replacement."""
    shares: ndarray = rng.multinomial(examples, np.full(examples, 1 / examples), count) / examples
    return shares


def _resampled(
    groups: Sequence[Sequence[int]], count: int, rng: np.random.Generator
) -> Int64[ndarray, "draw change"]:
    """Changes drawn with replacement within their groups."""
    return np.concatenate([rng.choice(np.array(group), (count, len(group))) for group in groups], axis=1)


def _estimate(value: Float64[ndarray, " one"], draws: Float64[ndarray, " draw"]) -> Estimate:
    told = draws[np.isfinite(draws)]
    if not told.size or not np.isfinite(value).all():
        return Estimate(float("nan"), float("nan"), float("nan"))
    low, high = np.quantile(told, (0.025, 0.975))
    return Estimate(float(value[0]), float(low), float(high))


def _check(
    expected: Float64[ndarray, "change seen"], measured: Float64[ndarray, "change held"], paired: bool
) -> None:
    if len(expected) < _FEWEST or min(expected.shape[1], measured.shape[1]) < 2:
        raise DataError(
            f"{len(expected)} changes, expected from {expected.shape[1]} and measured on {measured.shape[1]} examples, "
            "cannot be correlated",
            f"use {_FEWEST} or more changes, and 2 or more examples on each side",
        )
    if paired and expected.shape != measured.shape:
        raise DataError(
            f"{expected.shape[1]} and {measured.shape[1]} examples cannot be paired", "give those of the same rows"
        )
    if not (np.isfinite(expected).all() and np.isfinite(measured).all()):
        raise DataError("some expected or measured changes are not numbers", "leave these changes out")
