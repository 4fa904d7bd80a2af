"""Non-inferiority errs one time in twenty at its margin, its interval is Tango's, and its power is the one announced."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar

from surgery.errors import DataError
from surgery.evaluation import (
    INCONCLUSIVE,
    INFERIOR,
    NOT_INFERIOR,
    NonInferiority,
    examples_for_share,
    mean_power,
    non_inferiority,
    score_interval,
    share_power,
)
from tests.helpers.shapes import unchecked

Z = 1.6448536269514722  # of one-sided 5 %


def shares(gained: int, lost: int, both: int, neither: int = 0) -> tuple[np.ndarray, np.ndarray]:
    before = np.repeat([0.0, 1.0, 1.0, 0.0], [gained, lost, both, neither])
    return before, np.repeat([1.0, 0.0, 1.0, 0.0], [gained, lost, both, neither])


def score(gained: int, lost: int, examples: int, difference: float) -> float:
    """The score statistic, with the likelihood of three counts maximised by search under the difference."""
    least, most = max(0.0, -difference), (1 - difference) / 2

    def loss(share_lost: float) -> float:
        cells = (share_lost + difference, share_lost, 1 - difference - 2 * share_lost)
        counts = (gained, lost, examples - gained - lost)
        terms = [count * math.log(max(cell, 1e-300)) for cell, count in zip(cells, counts, strict=True) if count]
        return -sum(terms)

    found = minimize_scalar(loss, bounds=(least, most), method="bounded", options={"xatol": 1e-12}).x
    variance = examples * (2 * found + difference - difference**2)
    return (gained - lost - examples * difference) / math.sqrt(variance)


@pytest.mark.parametrize(("gained", "lost", "examples"), [(3, 9, 100), (0, 4, 512), (12, 1, 64), (20, 20, 200)])
def test_the_interval_holds_the_differences_that_a_score_test_does_not_refuse(gained, lost, examples):
    low, high = score_interval(gained, lost, examples)
    middle = (gained - lost) / examples
    # the search is exact to about 1e-6 of a share, which moves the score and thereby the ends by no more
    assert low == pytest.approx(
        brentq(lambda d: score(gained, lost, examples, d) - Z, -0.5, middle - 1e-6), abs=1e-5
    )
    assert high == pytest.approx(
        brentq(lambda d: score(gained, lost, examples, d) + Z, middle + 1e-6, 0.5), abs=1e-5
    )


@given(st.integers(0, 30), st.integers(0, 30), st.integers(60, 2000), st.floats(0.01, 0.5))
def test_the_interval_holds_the_difference_mirrors_and_grows_with_the_level(gained, lost, examples, level):
    low, high = score_interval(gained, lost, examples, level=level)
    assert -1 <= low <= (gained - lost) / examples <= high <= 1
    assert score_interval(lost, gained, examples, level=level) == (-high, -low)
    wider = score_interval(gained, lost, examples, level=level / 2)
    assert wider[0] <= low
    assert wider[1] >= high


def test_without_a_changed_answer_the_interval_still_has_a_width() -> None:
    assert score_interval(0, 0, 512) == pytest.approx((-(Z**2) / (512 + Z**2), Z**2 / (512 + Z**2)), abs=1e-12)
    same = np.ones(100)
    assert non_inferiority(same, same, 0.01, binary=True, higher_is_better=True).verdict == INCONCLUSIVE
    assert non_inferiority(same, same, 0.03, binary=True, higher_is_better=True).verdict == NOT_INFERIOR


@pytest.mark.parametrize(
    ("examples", "changed", "margin"), [(512, 0.04, 0.01), (512, 0.2, 0.01), (128, 0.16, 0.05)]
)
def test_right_answers_worse_by_the_margin_are_called_not_inferior_one_time_in_twenty(examples, changed, margin):
    rng, runs = np.random.default_rng(21), 20_000
    cells = [(changed - margin) / 2, (changed + margin) / 2, 1 - changed]
    counts, times = np.unique(rng.multinomial(examples, cells, runs)[:, :2], axis=0, return_counts=True)
    wrong = sum(
        each
        for (gained, lost), each in zip(counts.tolist(), times, strict=True)
        if non_inferiority(
            *shares(gained, lost, examples - gained - lost), margin, binary=True, higher_is_better=True
        ).verdict
        == NOT_INFERIOR
    )
    # three standard errors of a share of the runs, and half the chance of the likeliest split: counts are whole
    spread = math.sqrt(0.05 * 0.95 / runs)
    step = 0.5 * math.exp(-(Z**2) / 2) / math.sqrt(2 * math.pi * examples * changed)
    assert wrong / runs == pytest.approx(0.05, abs=3 * spread + step)


@pytest.mark.parametrize("skewed", [False, True])
def test_a_loss_higher_by_the_margin_is_called_not_inferior_one_time_in_twenty(skewed: bool) -> None:
    rng, runs, examples = np.random.default_rng(7), 2000, 512
    draws = rng.exponential(0.05, (runs, examples)) - 0.05 if skewed else rng.normal(0, 0.05, (runs, examples))
    before = np.zeros(examples)
    found = [
        non_inferiority(before, row + 0.005, 0.005, binary=False, higher_is_better=False).verdict for row in draws
    ]
    # skewness moves Student's error by skew·(2z² + 1)·φ(z)/(6·√examples) to first order (Hall 1992)
    slant = 2 / math.sqrt(examples) * (2 * Z**2 + 1) / 6 * math.exp(-(Z**2) / 2) / math.sqrt(2 * math.pi)
    assert found.count(NOT_INFERIOR) / runs == pytest.approx(
        0.05, abs=3 * math.sqrt(0.05 * 0.95 / runs) + (slant if skewed else 0)
    )


def test_two_halves_that_count_the_same_err_no_more_often() -> None:
    rng, runs, wrong = np.random.default_rng(3), 600, 0
    parts = ["a"] * 300 + ["b"] * 100
    for gained, lost, far, off in rng.binomial([300, 300, 100, 100], [0.04, 0.06, 0.04, 0.06], (runs, 4)):
        pairs = (shares(gained, lost, 300 - gained - lost), shares(far, off, 100 - far - off))
        before, after = (np.concatenate(each) for each in zip(*pairs, strict=True))
        found = non_inferiority(before, after, 0.02, binary=True, higher_is_better=True, parts=parts)
        assert found.change == pytest.approx(((gained - lost) / 300 + (far - off) / 100) / 2)
        wrong += found.verdict == NOT_INFERIOR
    assert wrong / runs == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / runs))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.floats(1e-4, 1))
def test_a_verdict_says_no_more_than_its_interval(changes: list[float], margin: float) -> None:
    before = np.zeros(len(changes))
    found = non_inferiority(before, np.array(changes), margin, binary=False, higher_is_better=True)
    turned = non_inferiority(before, -np.array(changes), margin, binary=False, higher_is_better=False)
    assert found == turned
    assert (found.verdict == NOT_INFERIOR) == (found.low > -margin)
    assert (found.verdict == INFERIOR) == (found.high < -margin)


def test_a_wide_interval_is_inconclusive_though_nothing_changed_on_the_mean() -> None:
    change = np.tile([0.5, -0.5], 8)
    found = non_inferiority(np.zeros(16), change, 0.005, binary=False, higher_is_better=False)
    assert found.change == 0
    assert found.verdict == INCONCLUSIVE
    assert NonInferiority(0.01, -0.05, -0.07, -0.03).verdict == INFERIOR
    alone = non_inferiority(np.zeros(1), np.ones(1) / 2, 0.005, binary=False, higher_is_better=True)
    unknown = non_inferiority(np.zeros(3), np.full(3, math.nan), 0.005, binary=False, higher_is_better=True)
    assert (alone.verdict, unknown.verdict) == (INCONCLUSIVE, INCONCLUSIVE)


@pytest.mark.parametrize(
    ("examples", "changed", "margin"), [(512, 0.04, 0.01), (2000, 0.04, 0.01), (300, 0.1, 0.05)]
)
def test_as_good_a_variant_is_shown_not_inferior_as_often_as_announced(examples, changed, margin):
    rng, runs = np.random.default_rng(4), 1000
    counts = rng.multinomial(examples, [changed / 2, changed / 2, 1 - changed], runs)
    shown = np.mean([score_interval(*map(int, pair), examples)[0] > -margin for pair in counts[:, :2]])
    # a normal approximation of whole counts: one of them is worth this much at most
    step = 1 / math.sqrt(2 * math.pi * examples * changed)
    assert shown == pytest.approx(share_power(margin, changed, examples), abs=3 * math.sqrt(0.25 / runs) + step)
    assert share_power(margin, changed, examples_for_share(margin, changed)) == pytest.approx(0.8, abs=0.001)


def test_the_power_of_a_loss_is_the_one_announced() -> None:
    rng, runs, examples = np.random.default_rng(5), 1000, 400
    draws = rng.normal(0, 0.04, (runs, examples))
    verdicts = [
        non_inferiority(np.zeros(examples), row, 0.005, binary=False, higher_is_better=False).verdict
        for row in draws
    ]
    power = mean_power(0.005, 0.04, examples)
    assert verdicts.count(NOT_INFERIOR) / runs == pytest.approx(power, abs=3 * math.sqrt(0.25 / runs))
    assert (mean_power(0.005, 0.0, 10), share_power(0.01, 0.0, 512), share_power(0.01, 0.0, 200)) == (
        1.0,
        1.0,
        0.0,
    )


def test_what_cannot_be_compared_is_refused() -> None:
    for before, after, margin in (
        (np.ones(2), np.ones(3), 0.1),
        (np.ones(2), np.full(2, 0.5), 0.1),
        (np.ones(0), np.ones(0), 0.1),
        (np.ones(2), np.ones(2), 0.0),
    ):
        with pytest.raises(DataError):
            unchecked(non_inferiority)(before, after, margin, binary=True, higher_is_better=True)
    for counts in ((-1, 0, 5), (3, 3, 5), (0, 0, 0)):
        with pytest.raises(DataError):
            score_interval(*counts)
