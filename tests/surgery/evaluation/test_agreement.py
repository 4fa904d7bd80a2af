"""Agreement of expected and measured changes against scipy, and what noise does to it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from surgery.errors import DataError
from surgery.evaluation import agreement
from tests.helpers.refusals import refusal


def noisy(changes=20, seen=40, held=30, *, noise=1.0, seed=0, follow=1.0) -> tuple[np.ndarray, np.ndarray]:
    """Changes of random true size by example, expected and measured with independent noise."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=changes)
    told = follow * true + np.sqrt(1 - follow**2) * rng.normal(size=changes)
    return tuple(  # type: ignore[return-value]
        each[:, np.newaxis] + noise * rng.normal(size=(changes, count))
        for each, count in ((told, seen), (true, held))
    )


@settings(max_examples=6)
@given(st.integers(0, 10_000), st.integers(3, 30))
def test_the_three_numbers_are_those_of_scipy_and_of_a_line_through_the_origin(seed, changes):
    expected, measured = noisy(changes, seed=seed, follow=0.7)
    found = agreement(expected, measured, seed=seed)
    x, y = expected.mean(axis=1), measured.mean(axis=1)
    assert found.changes == changes
    assert found.spearman.value == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)
    assert found.pearson.value == pytest.approx(pearsonr(x, y).statistic, abs=1e-12)
    (slope,), *_ = np.linalg.lstsq(x[:, np.newaxis], y, rcond=None)
    assert found.slope.value == pytest.approx(slope, rel=1e-12)
    assert found.signs == sum(a * b > 0 for a, b in zip(x, y, strict=True)) / changes


def by_hand(expected, measured, groups, *, paired, draws=3000) -> dict[str, np.ndarray]:
    """Percentile intervals from draws made one after the other, with scipy."""
    rng = np.random.default_rng(1)
    rows: dict[str, list[float]] = {"spearman": [], "pearson": []}
    for _ in range(draws):
        seen = rng.integers(expected.shape[1], size=expected.shape[1])
        held = seen if paired else rng.integers(measured.shape[1], size=measured.shape[1])
        drawn = np.concatenate([rng.choice(group, len(group)) for group in groups])
        x, y = expected[drawn][:, seen].mean(axis=1), measured[drawn][:, held].mean(axis=1)
        rows["pearson"].append(np.corrcoef(x, y)[0, 1])
        rows["spearman"].append(np.corrcoef(*(np.searchsorted(np.sort(v), v) for v in (x, y)))[0, 1])
    return {name: np.quantile(values, (0.025, 0.975)) for name, values in rows.items()}


@pytest.mark.parametrize("paired", [False, True])
def test_intervals_are_those_of_draws_of_changes_and_examples_made_one_by_one(paired):
    expected, measured = noisy(12, 20, 20, noise=2.0, seed=3, follow=0.8)
    if paired:
        measured = measured + expected
    groups = [range(5), range(5, 12)]
    found = agreement(expected, measured, groups=groups, paired=paired)
    wanted = by_hand(expected, measured, groups, paired=paired)
    # 2000 and 3000 draws: a quantile of 2.5 % is uncertain by a share of the width
    assert (found.pearson.low, found.pearson.high) == pytest.approx(wanted["pearson"], abs=0.06)
    # ranks of ties differ, so only roughly
    assert (found.spearman.low, found.spearman.high) == pytest.approx(wanted["spearman"], abs=0.12)


def test_the_ceiling_is_what_a_faultless_expectation_reaches_and_it_falls_with_noise():
    reached, told = [], []
    for noise in (1.0, 4.0):
        both = [agreement(*noisy(30, noise=noise, seed=seed)) for seed in range(8)]
        reached.append(np.mean([each.spearman.value for each in both]))
        told.append(np.mean([each.ceiling for each in both]))
    assert told == pytest.approx(reached, abs=0.08)
    assert told[1] < told[0] - 0.1


def test_reliability_is_the_mean_spearman_of_halves_stepped_up():
    values = noisy(15, 21, noise=3.0, seed=5)[0]
    rng = np.random.default_rng(2)
    halves = []
    for _ in range(400):
        order = rng.permutation(21)
        first, second = values[:, order[:10]].mean(axis=1), values[:, order[10:20]].mean(axis=1)
        halves.append(spearmanr(first, second).statistic)
    between = np.mean(halves)
    wanted = 2 * between / (1 + between)
    assert agreement(noisy(15)[0], values).measured_reliability == pytest.approx(wanted, abs=0.05)


def test_measurements_that_do_not_repeat_have_a_ceiling_of_zero():
    rng = np.random.default_rng(0)
    pure = rng.normal(size=(20, 30))
    pure -= pure.mean(axis=1, keepdims=True)  # halves then mirror each other
    found = agreement(noisy()[0], pure)
    assert -1 <= found.measured_reliability < 0
    assert found.ceiling == 0
    assert found.clear == 0


def test_changes_that_all_tie_have_no_rank_correlation():
    found = agreement(np.ones((4, 5)), noisy(4)[1])
    for each in (found.spearman, found.pearson):
        assert np.isnan([each.value, each.low, each.high]).all()


@pytest.mark.parametrize(
    ("expected", "measured", "paired", "said"),
    [
        (np.ones((2, 5)), np.ones((2, 5)), False, "2 changes"),
        (np.ones((4, 5)), np.ones((4, 1)), False, "measured on 1 examples"),
        (np.ones((4, 5)), np.ones((4, 6)), True, "cannot be paired"),
        (np.full((4, 5), np.nan), np.ones((4, 5)), False, "not numbers"),
    ],
)
def test_what_cannot_be_correlated_is_refused(expected: Any, measured: Any, paired: bool, said: str):
    assert said in refusal(DataError, agreement, expected, measured, paired=paired)
