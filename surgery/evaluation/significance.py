"""Whether a change is more than luck: exact tests, many variants at once, the power of a slice, a rank among controls.

Everything is paired: each variant answers the same examples as the unedited adapter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.special import bdtr, ndtri, stdtr

from surgery.errors import DataError


@dataclass(frozen=True)
class McNemar:
    """Examples that a variant gained and lost against the baseline, and the exact two-sided p of that split."""

    gained: int
    lost: int
    p: float


def mcnemar(baseline: Float64[ndarray, " example"], variant: Float64[ndarray, " example"]) -> McNemar:
    """McNemar's exact test for 0/1 scores of the same examples (McNemar 1947; binomial form).

    Under the null a changed example is gained or lost with probability ½ each; without a changed
    example p is 1. Raises `DataError` for scores that are not 0 or 1, or not of the same examples.
    """
    if baseline.shape != variant.shape:
        raise DataError(
            f"{baseline.size} and {variant.size} scores cannot be paired", "score both on the same examples"
        )
    if not np.isin([baseline, variant], (0.0, 1.0)).all():
        raise DataError("McNemar's test needs scores that are 0 or 1", "use the interval of the mean instead")
    gained, lost = int((variant > baseline).sum()), int((variant < baseline).sum())
    return McNemar(gained, lost, _fair_coin(gained, lost))


@dataclass(frozen=True)
class SignTest:
    """How many numbers lie above and below zero, and the exact two-sided p of that split."""

    above: int
    below: int
    p: float


def sign_test(above: int, below: int) -> SignTest:
    """The exact sign test: under the null a number that is not zero is above it with probability ½.

    Without one, p is 1.
    """
    return SignTest(above, below, _fair_coin(above, below))


def _fair_coin(heads: int, tails: int) -> float:
    """Two-sided exact p of a split of a fair coin."""
    # its two tails are alike; with as many heads as tails they overlap
    return min(1.0, 2 * float(bdtr(min(heads, tails), heads + tails, 0.5))) if heads + tails else 1.0


def mean_test(mean: float, standard_error: float, degrees: int) -> float:
    """Student's two-sided p of a mean against zero; NaN where the error is not known.

    mean, standard_error: of the paired differences, in the metric's numbers.
    degrees: of freedom: examples less one, or less the number of parts that are averaged.

    A mean of zero has p 1, and any other without an error, where all differences are alike, p 0.
    """
    if np.isnan(standard_error) or degrees < 1:
        return float("nan")
    if mean == 0:
        return 1.0
    return 2 * float(stdtr(degrees, -abs(mean) / standard_error)) if standard_error else 0.0


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p adjusted for looking at all of them at once (Holm 1979): at level a, the chance that any true null
    falls below a stays at most a, whatever the dependence between the tests. NaN stays NaN and does not count.
    """
    known = sorted((p, name) for name, p in p_values.items() if not np.isnan(p))
    adjusted = {name: float("nan") for name in p_values}
    worst = 0.0
    for rank, (p, name) in enumerate(known):
        worst = max(worst, min(1.0, (len(known) - rank) * p))
        adjusted[name] = worst
    return adjusted


def least_detectable(
    deviation: float, examples: int, *, level: float = 0.05, power: float = 0.8, tests: int = 1
) -> float:
    """The smallest mean paired change that a slice shows with probability `power`, in units of `deviation`.

    deviation: standard deviation of the paired differences; for 0/1 scores √(share of examples that change).
    examples: size of the slice.
    level: two-sided, shared among all tests.
    power: probability to show a change of that size.
    tests: variants tested at once.

    Normal approximation. Raises `DataError` for fewer than two examples or shares outside (0, 1).
    """
    if examples < 2 or not 0 < level < 1 or not 0 < power < 1 or tests < 1:
        raise DataError(
            f"no power can be told of {examples} examples at level {level} and power {power}",
            "use two or more examples, and shares between 0 and 1",
        )
    quantiles = ndtri(1 - level / tests / 2) + ndtri(power)
    return float(quantiles * deviation / np.sqrt(examples))


@dataclass(frozen=True)
class PermutationRank:
    """The permutation rank of an edit among random controls.

    `beaten` of `controls` have a smaller change in the wanted direction; `p` is (1 + not beaten) /
    (1 + controls), the chance of that rank or a better one if the edit were one more control.
    """

    beaten: int
    controls: int
    p: float


def permutation_rank(change: float, controls: Sequence[float], *, lower_is_better: bool) -> PermutationRank:
    """The permutation rank of an edit's change among those of its controls; ties count against it.

    Raises `DataError` without controls or with numbers that are not finite.
    """
    others = np.asarray(controls, dtype=np.float64)
    if not others.size or not np.isfinite([change, *others]).all():
        raise DataError("there is no finite change of a random control to compare with", "run random controls too")
    sign = -1.0 if lower_is_better else 1.0
    beaten = int((sign * change > sign * others).sum())
    return PermutationRank(beaten, others.size, (1 + others.size - beaten) / (1 + others.size))
