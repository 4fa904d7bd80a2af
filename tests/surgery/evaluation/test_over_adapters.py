"""Effects over adapters: against plain loops, formulas of their coverage, and invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from surgery.errors import DataError
from surgery.evaluation import (
    LOST,
    TIE,
    WIN,
    PairedDifferences,
    over_adapters,
    paired_effect,
    tally,
    verdict,
)
from tests.helpers.shapes import unchecked

EPS = np.finfo(float).eps
numbers = st.lists(st.integers(-4, 4).map(float), min_size=2, max_size=6).map(np.array)


def drawn(rng, adapters, examples, *, between=1.0, rows=0.0, within=1.0):
    """Differences with an effect of zero: an adapter's own, a row's own and what is left, as deviations."""
    shared = rows * rng.normal(size=examples)
    own = between * rng.normal(size=(adapters, 1))
    return [PairedDifferences(row) for row in own + shared + within * rng.normal(size=(adapters, examples))]


def test_the_interval_is_that_of_a_loop_over_drawn_adapters_and_their_drawn_examples():
    rng = np.random.default_rng(0)
    own = [PairedDifferences(rng.normal(size=n)) for n in (7, 3, 12, 1)]
    found = over_adapters(own, seed=5, resamples=200)
    again = np.random.default_rng(5)
    adapters = again.integers(4, size=(200, 4))
    means = np.empty((200, 4))
    for place, each in enumerate(own):  # the draws of one adapter come one after the other
        for resample, slot in np.argwhere(adapters == place):
            rows = again.integers(each.numbers.size, size=each.numbers.size)
            means[resample, slot] = sum(each.numbers[row] for row in rows) / each.numbers.size
    expected = np.quantile(means.mean(axis=1), (0.025, 0.975))
    # sums of at most 12 numbers around 1, then of four means
    np.testing.assert_allclose([found.effect.low, found.effect.high], expected, atol=16 * EPS * 4)
    assert found.effect.mean == pytest.approx(np.mean([each.numbers.mean() for each in own]), rel=8 * EPS)
    assert found.effect.standard_error == pytest.approx(means.mean(axis=1).std(ddof=1), rel=1e-12)


@pytest.mark.parametrize("parts", [None, ("a", "a", "b", "b", "b", "a", "b", "b")])
def test_adapters_that_answered_the_same_rows_share_the_draw_of_rows(parts):
    rng = np.random.default_rng(1)
    own = [PairedDifferences(rng.normal(size=8), parts) for _ in range(3)]
    found = over_adapters(own, same_rows=True, seed=2, resamples=100)
    again = np.random.default_rng(2)
    adapters = again.integers(3, size=(100, 3))
    split = [np.arange(8)] if parts is None else [np.flatnonzero(np.array(parts) == name) for name in "ab"]
    rows = [[place[again.integers(place.size, size=place.size)] for _ in range(100)] for place in split]
    means = [
        np.mean([np.mean([own[a].numbers[part[r]].mean() for part in rows]) for a in adapters[r]])
        for r in range(100)
    ]
    np.testing.assert_allclose(
        [found.effect.low, found.effect.high], np.quantile(means, (0.025, 0.975)), atol=16 * EPS * 4
    )


@pytest.mark.parametrize("same_rows", [False, True])
@pytest.mark.parametrize("parts", [None, ("a",) * 10 + ("b",) * 20])
def test_one_adapter_has_the_paired_bootstrap_of_its_examples(same_rows, parts):
    own = np.random.default_rng(3).normal(0.2, 1, size=30)
    found = over_adapters([PairedDifferences(own, parts)], same_rows=same_rows)
    alone = paired_effect(np.zeros(30), own, parts=parts)
    assert found.effect.mean == alone.mean
    # counts times numbers add the same terms in another order
    ends = [found.effect.low, found.effect.high]
    np.testing.assert_allclose(ends, [alone.low, alone.high], rtol=64 * EPS if same_rows else 0)
    assert found.effect.standard_error == pytest.approx(alone.standard_error, rel=0.05)
    assert np.isnan([found.spread, *found.t_interval]).all()
    assert "says nothing of other adapters" in found.caution
    single = over_adapters([PairedDifferences(np.ones(1))], same_rows=same_rows).effect
    assert single.mean == 1
    assert np.isnan([single.standard_error, single.low, single.high]).all()


def coverage(adapters, examples, trials, *, same_rows=False, **deviations):
    """The shares of trials in which the bootstrap's and Student's interval hold zero, the true effect."""
    rng = np.random.default_rng(4)
    found = [
        over_adapters(drawn(rng, adapters, examples, **deviations), same_rows=same_rows, seed=t, resamples=200)
        for t in range(trials)
    ]
    held = [each.effect.low <= 0 <= each.effect.high for each in found]
    return np.mean(held), np.mean([each.t_interval[0] <= 0 <= each.t_interval[1] for each in found])


@pytest.mark.parametrize(("adapters", "between"), [(18, 1.0), (18, 0.0), (3, 1.0)])
def test_the_interval_covers_as_often_as_the_formula_of_its_width_says(adapters, between):
    examples, trials = 12, 150
    found, students = coverage(adapters, examples, trials, between=between)
    rng = np.random.default_rng(5)
    noise = 1 / examples  # of an adapter's mean, from its examples
    variance = between**2 + noise
    spread = variance * rng.chisquare(adapters - 1, 200_000) / (adapters - 1)
    width = 1.96 * np.sqrt(((adapters - 1) / adapters * spread + noise * (examples - 1) / examples) / adapters)
    said = 2 * stats.norm.cdf(width / np.sqrt(variance / adapters)).mean() - 1
    # five binomial errors; the ends of 200 resamples and the shape of the percentile interval take two points more
    assert found == pytest.approx(said, abs=5 * np.sqrt(said * (1 - said) / trials) + 0.02)
    assert students == pytest.approx(0.95, abs=5 * np.sqrt(0.05 * 0.95 / trials))
    assert said > 0.92 if adapters == 18 else said < 0.85


def test_rows_that_all_adapters_answered_do_not_average_out_over_adapters():
    deviations = {"between": 0.1, "rows": 1.0, "within": 0.3}
    alone, _ = coverage(12, 20, 100, **deviations)
    together, students = coverage(12, 20, 100, same_rows=True, **deviations)
    assert together > 0.9
    assert alone < 0.6, "each adapter with rows of its own would take the rows' noise for averaged out"
    assert students < 0.6, "and so does a formula that sees the means alone"


@settings(max_examples=12, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=5), st.sampled_from([-2.0, 0.5, 4.0]))
def test_the_effect_is_of_adapters_not_of_examples_and_scales_with_them(rows, factor):
    own = [PairedDifferences(row) for row in rows]
    found = over_adapters(own, resamples=50)
    assert min(min(row) for row in rows) <= found.effect.low <= found.effect.high <= max(max(r) for r in rows)
    doubled = over_adapters([PairedDifferences(np.tile(rows[0], 2)), *own[1:]], resamples=50)
    assert doubled.effect.mean == pytest.approx(found.effect.mean, abs=1e-12)
    scaled = over_adapters([PairedDifferences(factor * row) for row in rows], resamples=50).effect
    ends = sorted((factor * found.effect.low, factor * found.effect.high))
    np.testing.assert_allclose([scaled.low, scaled.high], ends, atol=1e-12)
    assert found.signs.above + found.signs.below + sum(mean == 0 for mean in found.means) == len(rows)


def test_spread_students_interval_and_signs_are_those_of_the_adapters_means():
    means = [0.3, -0.1, 0.5, 0.2, 0.4, 0.1]
    found = over_adapters([PairedDifferences(np.full(4, mean)) for mean in means])
    assert found.spread == pytest.approx(np.std(means, ddof=1))
    expected = stats.t.interval(0.95, 5, np.mean(means), stats.sem(means))
    assert found.t_interval == pytest.approx(expected)
    assert (found.signs.above, found.signs.below) == (5, 1)
    assert found.signs.p == pytest.approx(stats.binomtest(5, 6).pvalue)
    assert "6 adapters are too few" in found.caution
    many = over_adapters([PairedDifferences(np.full(4, mean)) for mean in means * 2])
    assert not many.caution
    assert many.verdict_interval == (many.effect.low, many.effect.high)
    # three adapters whose means are far apart: every resample is above zero, and Student's interval is not
    few = over_adapters([PairedDifferences(np.full(4, mean)) for mean in (0.1, 0.2, 0.9)])
    assert few.effect.certain
    assert few.verdict_interval == few.t_interval
    assert not few.certain


def test_an_adapter_wins_or_loses_by_its_corrected_test_and_the_metrics_direction_alone():
    cases = [(0.2, 0.01, True, WIN), (0.2, 0.01, False, LOST), (-0.2, 0.01, True, LOST)]
    cases += [(0.2, 0.05, True, TIE), (9.0, float("nan"), True, TIE), (0.0, 0.0, True, TIE)]
    assert [verdict(change, p, higher_is_better=up) for change, p, up, _ in cases] == [said for *_, said in cases]
    assert tally(said for *_, said in cases) == (1, 3, 2)


@pytest.mark.parametrize(
    ("rows", "same_rows"), [([], False), ([[]], False), ([[1, np.nan]], False), ([[1, 2], [1, 2, 3]], True)]
)
def test_what_cannot_be_averaged_is_refused(rows, same_rows):
    own = [PairedDifferences(np.array(row, dtype=float)) for row in rows]
    with pytest.raises(DataError):
        unchecked(over_adapters)(own, same_rows=same_rows)
