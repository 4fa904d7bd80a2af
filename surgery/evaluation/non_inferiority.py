"""Non-inferiority: whether a variant is worse than the unedited adapter by no more than a margin named before the run.

The claim stands where the paired 90 % interval of the change lies above −margin: a one-sided test at 5 %, the rule of
two one-sided tests (Schuirmann 1987). An interval that holds −margin shows neither this nor its opposite, however near
zero the change is. Of right answers the interval is Tango's score interval (Tango 1998), because few answers change and a
normal interval of few changes is too narrow, and of none has no width; of losses it is Student's.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.special import ndtr, ndtri, stdtrit

from surgery.errors import DataError
from surgery.evaluation.parts import macro_error, macro_mean

NOT_INFERIOR, INCONCLUSIVE, INFERIOR = "not inferior", "inconclusive", "inferior"
LEVEL = 0.05  # one-sided
_HALVINGS = 60  # of an interval no longer than 2: to the last bit of a float64


@dataclass(frozen=True)
class NonInferiority:
    """A paired change, counted so that more is better, beside a margin, in the metric's own numbers.

    `low` and `high` are the ends of the 90 % interval, each a one-sided 95 % bound; NaN where there is none.
    """

    margin: float
    change: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`not inferior` or `inferior` by more than the margin where the interval says so, else `inconclusive`."""
        if self.low > -self.margin:
            return NOT_INFERIOR
        return INFERIOR if self.high < -self.margin else INCONCLUSIVE


def non_inferiority(
    baseline: Float64[ndarray, " example"],
    variant: Float64[ndarray, " example"],
    margin: float,
    *,
    binary: bool,
    higher_is_better: bool,
    parts: Sequence[str] | None = None,
) -> NonInferiority:
    """Whether a variant is worse than the baseline by no more than a margin, on the same examples.

    baseline: one number for each example.
    variant: the same of the variant.
    margin: above 0, in the metric's own numbers: 0.01 is one point of right answers.
    binary: whether the numbers are right answers, 0 or 1, which have the score interval; else Student's.
    higher_is_better: whether a lower number is a loss.
    parts: names of the examples' parts, where their means count the same.

    With parts, the score intervals of these are joined by squares and sums (Zou and Donner 2008). Raises `DataError` for
    numbers that cannot be paired or are not 0 or 1 where they should, and for a margin that is not above 0.
    """
    sound = baseline.shape == variant.shape and baseline.size > 0 and 0 < margin < math.inf
    known = sound and bool(np.isfinite([baseline, variant]).all())
    if not sound or (known and binary and not np.isin([baseline, variant], (0.0, 1.0)).all()):
        raise DataError(
            f"{baseline.size} and {variant.size} numbers cannot be compared by a margin of {margin:g}",
            "score both on the same examples, right answers as 0 or 1, and name a margin above 0",
        )
    if not known:
        return NonInferiority(margin, math.nan, math.nan, math.nan)
    better = (variant - baseline) * (1 if higher_is_better else -1)
    change = float(better.mean()) if parts is None else macro_mean(better, parts)
    low, high = _share_bounds(better, parts) if binary else _mean_bounds(better, change, parts)
    return NonInferiority(margin, change, low, high)


def score_interval(gained: int, lost: int, examples: int, *, level: float = 2 * LEVEL) -> tuple[float, float]:
    """Tango's score interval of a difference of paired shares, (gained − lost)/examples (Tango 1998).

    gained: examples that the variant alone has right.
    lost: examples that the baseline alone has right.
    examples: all of them.
    level: share of intervals that miss, two-sided.

    Holds the differences that a score test at half that level does not refuse; without a changed example it is
    ±z²/(examples + z²). Raises `DataError` for counts that do not fit.
    """
    if min(gained, lost) < 0 or gained + lost > examples or examples < 1 or not 0 < level < 1:
        raise DataError(
            f"{gained} gained and {lost} lost of {examples} examples have no interval at level {level}",
            "count each example once, and use a level between 0 and 1",
        )
    z = float(ndtri(1 - level / 2))
    return _score_bound(gained, lost, examples, z), -_score_bound(lost, gained, examples, z)


def share_power(margin: float, changed: float, examples: int) -> float:
    """The chance that a variant as good as the unedited adapter is shown to be not inferior in right answers.

    margin: as a share.
    changed: share of the answers that change, to and fro alike.
    examples: size of the slice.

    Normal approximation with the score test's own variance at the margin (Tango 1998, §4).
    """
    root = math.sqrt(examples)
    if not changed:
        return float(_null_deviation(0.0, margin) * ndtri(1 - LEVEL) <= margin * root)
    gap = margin * root - float(ndtri(1 - LEVEL)) * _null_deviation(changed, margin)
    return float(ndtr(gap / math.sqrt(changed)))


def mean_power(margin: float, deviation: float, examples: int) -> float:
    """The same for a mean: `deviation` is the standard deviation of the paired differences, in the margin's unit."""
    if not deviation:
        return 1.0
    return float(ndtr(margin * math.sqrt(examples) / deviation - ndtri(1 - LEVEL)))


def examples_for_share(margin: float, changed: float, *, power: float = 0.8) -> int:
    """How many examples give `share_power` that power."""
    reach = float(ndtri(1 - LEVEL)) * _null_deviation(changed, margin) + float(ndtri(power)) * math.sqrt(changed)
    return max(2, math.ceil((reach / margin) ** 2))


def _share_bounds(better: Float64[ndarray, " example"], parts: Sequence[str] | None) -> tuple[float, float]:
    names = np.array(["whole"] * better.size if parts is None else parts, dtype=object)
    below, above, means = [], [], []
    for name in dict.fromkeys(names):
        own = better[names == name]
        low, high = score_interval(int((own > 0).sum()), int((own < 0).sum()), own.size)
        means.append(float(own.mean()))
        below.append(means[-1] - low)
        above.append(high - means[-1])
    mean = float(np.mean(means))
    return mean - float(np.linalg.norm(below)) / len(means), mean + float(np.linalg.norm(above)) / len(means)


def _mean_bounds(
    better: Float64[ndarray, " example"], mean: float, parts: Sequence[str] | None
) -> tuple[float, float]:
    count = better.size
    freedom = count - (1 if parts is None else len(set(parts)))
    if freedom < 1:
        return math.nan, math.nan
    error = float(better.std(ddof=1) / math.sqrt(count)) if parts is None else macro_error(better, parts)
    reach = float(stdtrit(freedom, 1 - LEVEL)) * error
    return mean - reach, mean + reach


def _score_bound(gained: int, lost: int, examples: int, z: float) -> float:
    """The least difference that is not refused: the score falls as the difference rises, so halving finds it."""
    low, high = -1.0, (gained - lost) / examples
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        beyond = gained - lost - examples * middle
        if beyond > z * math.sqrt(examples) * _deviation(gained / examples, lost / examples, middle):
            low = middle
        else:
            high = middle
    return high


def _deviation(gained: float, lost: float, difference: float) -> float:
    """Standard deviation of gained − lost of one example, at the likeliest shares with that difference."""
    linear = (2 - gained + lost) * difference - gained - lost
    root = math.sqrt(max(linear**2 + 8 * lost * difference * (1 - difference), 0.0))
    share = (root - linear) / 4
    return math.sqrt(max(2 * share + difference * (1 - difference), 0.0))


def _null_deviation(changed: float, margin: float) -> float:
    return _deviation(changed / 2, changed / 2, -margin)
