"""The effect of one method over several adapters: hierarchical bootstrap, spread between adapters, wins and losses.

An adapter counts as one whatever the number of its examples: the effect is the mean of the adapters' own paired means
(as the follow-up, TTtianTT/peft-sft-lab, averages adapters). Adapters are resampled first and the examples of each drawn
adapter second (Davison and Hinkley, Bootstrap Methods and their Application, 1997, §3.8); adapters that answered the
same examples share the draw of these (Owen, The pigeonhole bootstrap, 2007), for else what is peculiar to the examples
would seem to average out over adapters.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.special import stdtrit

from surgery.errors import DataError
from surgery.evaluation.evaluation import Effect
from surgery.evaluation.parts import macro_mean, macro_resamples, parts_of
from surgery.evaluation.resampling import RESAMPLES, drawn_rows, resampled_means
from surgery.evaluation.significance import SignTest, sign_test

FEW_ADAPTERS = 10  # below which more than 10 in 100 intervals of the bootstrap miss, where adapters differ much
WIN, TIE, LOST = "win", "tie", "loss"
LEVEL = 0.05


@dataclass(frozen=True)
class PairedDifferences:
    """Variant minus baseline of one adapter, one number an example, in the metric's own numbers.

    With `parts`, the names of the examples' parts, its mean is that of the parts' means.
    """

    numbers: Float64[ndarray, " example"]
    parts: tuple[str, ...] | None = None

    @property
    def mean(self) -> float:
        if self.parts is not None:
            return macro_mean(self.numbers, self.parts)
        return float(self.numbers.mean())

    def resampled(self, count: int, rng: np.random.Generator) -> Float64[ndarray, " resample"]:
        """Means of `count` bootstrap resamples of its examples, drawn within parts where it has these."""
        if self.parts is not None:
            return macro_resamples(self.numbers, self.parts, count, rng)
        return resampled_means(self.numbers, count, rng)


@dataclass(frozen=True)
class OverAdapters:
    """The mean effect of a method over adapters, and how far apart these are.

    effect: mean of the adapters' means; standard error and 95 % percentile interval of the hierarchical bootstrap.
    means: each adapter's own paired mean.
    same_rows: whether the adapters answered the same examples, which were then drawn together.
    """

    effect: Effect
    means: tuple[float, ...]
    same_rows: bool = False

    @property
    def adapters(self) -> int:
        return len(self.means)

    @property
    def spread(self) -> float:
        """Standard deviation of the adapters' means, noise of their examples included; NaN for one adapter."""
        return float(np.std(self.means, ddof=1)) if self.adapters > 1 else float("nan")

    @cached_property
    def t_interval(self) -> tuple[float, float]:
        """Student's 95 % interval of the mean over adapters; NaN for one adapter.

        It is from their means alone and knows nothing of noise that they share, as that of the same rows.
        """
        half = self.spread / self.adapters**0.5
        half *= float(stdtrit(self.adapters - 1, 1 - LEVEL / 2)) if self.adapters > 1 else 1.0
        return self.effect.mean - half, self.effect.mean + half

    @property
    def verdict_interval(self) -> tuple[float, float]:
        """The interval to go by: the bootstrap's, of fewer than ten adapters the wider of it and Student's."""
        low, high = self.effect.low, self.effect.high
        if 1 < self.adapters < FEW_ADAPTERS:
            return min(low, self.t_interval[0]), max(high, self.t_interval[1])
        return low, high

    @property
    def certain(self) -> bool:
        """Whether the interval to go by excludes zero."""
        low, high = self.verdict_interval
        return low > 0 or high < 0

    @cached_property
    def signs(self) -> SignTest:
        """How many adapters rose and fell, and the exact sign test of that split."""
        means = np.array(self.means)
        return sign_test(int((means > 0).sum()), int((means < 0).sum()))

    @property
    def caution(self) -> str:
        """What is to be told of an interval over so few adapters; empty for ten or more."""
        if self.adapters == 1:
            return "one adapter: the interval is that of its examples and says nothing of other adapters"
        if self.adapters < FEW_ADAPTERS:
            return (
                f"{self.adapters} adapters are too few for a bootstrap over adapters: where these differ much, its "
                "interval misses the true mean for 36 in 100 sets of two, 22 of three and 12 of five. Go by the wider "
                "of it and Student's interval over the adapters' means"
            )
        return ""


def over_adapters(
    differences: Sequence[PairedDifferences],
    *,
    same_rows: bool = False,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> OverAdapters:
    """The mean effect over adapters with its seeded hierarchical bootstrap.

    differences: of each adapter, variant minus baseline by example.
    same_rows: the adapters answered the same examples in the same order, so that these are drawn once for all.
    seed: of the draws.
    resamples: how many.

    One adapter has the interval of `paired_effect`. Of one example of one adapter there is none: NaN. Where adapters
    hardly differ, the interval is too wide by up to √2, because the noise of the examples is in both draws. Raises
    `DataError` without adapters, for numbers that are not finite, and for `same_rows` of differing counts.
    """
    _check(differences, same_rows)
    means = tuple(each.mean for each in differences)
    mean = float(np.mean(means))
    if len(differences) == 1 and differences[0].numbers.size == 1:
        return OverAdapters(Effect(mean, *[float("nan")] * 3), means, same_rows)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(differences), size=(resamples, len(differences)))
    found = _crossed(differences, drawn, rng) if same_rows else _nested(differences, drawn, rng)
    low, high = np.quantile(found, (LEVEL / 2, 1 - LEVEL / 2))
    return OverAdapters(Effect(mean, float(found.std(ddof=1)), float(low), float(high)), means, same_rows)


def verdict(change: float, p: float, *, higher_is_better: bool) -> str:
    """Win, tie or loss of one adapter by its own corrected test; unknown p is a tie.

    change: paired mean, in the metric's own numbers.
    p: of the adapter's test, corrected for all that were looked at with it.
    """
    if not p < LEVEL or not change:
        return TIE
    return WIN if (change > 0) == higher_is_better else LOST


def tally(verdicts: Iterable[str]) -> tuple[int, int, int]:
    """How many wins, ties and losses."""
    counts = Counter(verdicts)
    return counts[WIN], counts[TIE], counts[LOST]


def _check(differences: Sequence[PairedDifferences], same_rows: bool) -> None:
    if not differences or not all(each.numbers.size for each in differences):
        raise DataError("there is no adapter with examples to average over", "prove the method on one or more")
    if not all(np.isfinite(each.numbers).all() for each in differences):
        raise DataError("some differences are no finite numbers", "leave out adapters where this was not measured")
    if same_rows and len({(each.numbers.size, each.parts) for each in differences}) > 1:
        raise DataError("the adapters answered different examples", "average them without same_rows")


def _nested(
    differences: Sequence[PairedDifferences], drawn: ndarray, rng: np.random.Generator
) -> Float64[ndarray, " resample"]:
    """Every drawn adapter draws examples of its own."""
    means = np.empty(drawn.shape)
    for place, own in enumerate(differences):
        chosen = drawn == place
        means[chosen] = own.resampled(int(chosen.sum()), rng)
    return means.mean(axis=1)


def _crossed(
    differences: Sequence[PairedDifferences], drawn: ndarray, rng: np.random.Generator
) -> Float64[ndarray, " resample"]:
    """All adapters of a resample share its draw of examples."""
    table = np.stack([each.numbers for each in differences], axis=1)
    split = [table] if differences[0].parts is None else parts_of(table, differences[0].parts)
    means = np.mean([_drawn_together(own, len(drawn), rng) for own in split], axis=0)
    return np.take_along_axis(means, drawn, axis=1).mean(axis=1)


def _drawn_together(
    table: Float64[ndarray, "example adapter"], count: int, rng: np.random.Generator
) -> Float64[ndarray, "resample adapter"]:
    """Every adapter's mean in each resample of the rows: counts of the rows times the table."""
    examples, found = len(table), []
    for rows in drawn_rows(examples, count, rng):
        places = rows + examples * np.arange(len(rows))[:, None]
        counts = np.bincount(places.ravel(), minlength=rows.size).reshape(rows.shape)
        found.append(counts @ table / examples)
    return np.concatenate(found)
