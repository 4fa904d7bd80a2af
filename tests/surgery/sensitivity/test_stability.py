"""Stability at smaller budgets against scipy's Spearman and sets taken by hand."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from surgery.sensitivity import budgets
from tests.helpers.policies import measured


def noisy(seed=0, examples=300, ranks=(16, 16, 5)) -> Any:
    """Components of different means under noise, so that a ranking settles with examples."""
    rng = np.random.default_rng(seed)
    return measured({f"m{i}": rng.normal(rng.normal(size=r), 2.0, (examples, r)) for i, r in enumerate(ranks)})


def top_share(a, b):
    count = max(1, round(0.2 * a.size))
    rank = [set(sorted(range(x.size), key=lambda i, x=x: -x[i])[:count]) for x in (a, b)]
    return len(rank[0] & rank[1]) / count


def compared(first, second):
    """Means over modules of the three comparisons, with scipy."""
    rows = []
    for a, b in zip(first, second, strict=True):
        sizes = np.abs(a).mean(axis=0), np.abs(b).mean(axis=0)
        rows.append((spearmanr(*sizes)[0], spearmanr(a.mean(axis=0), b.mean(axis=0))[0], top_share(*sizes)))
    return np.mean(rows, axis=0)


@given(st.integers(0, 10_000))
def test_correlations_equal_those_of_scipy(seed):
    sensitivity = noisy(seed, 70)
    modules = list(sensitivity.values.values())
    found = budgets(sensitivity, (9, 32, 70))
    assert [budget.examples for budget in found] == [9, 32, 70]
    for budget in found:
        n, half = budget.examples, budget.examples // 2
        whole = compared([g[:n] for g in modules], modules)
        halves = compared([g[:half] for g in modules], [g[half : 2 * half] for g in modules])
        assert (budget.magnitude, budget.signed, budget.top) == pytest.approx(whole, abs=1e-12)
        assert (budget.half_magnitude, budget.half_signed, budget.half_top) == pytest.approx(halves, abs=1e-12)
        assert budget.modules == 3


def test_ties_share_their_mean_rank_as_in_scipy():
    rng = np.random.default_rng(0)
    g = rng.integers(-1, 2, (8, 30)).astype(float)
    (found,) = budgets(measured({"m": g}), (4,))
    magnitude, signed, _ = compared([g[:4]], [g])
    assert found.magnitude == pytest.approx(magnitude, abs=1e-12)
    assert found.signed == pytest.approx(signed, abs=1e-12)


def test_the_budget_of_all_examples_agrees_with_itself_and_rankings_settle():
    found = budgets(noisy(examples=256))
    assert [budget.examples for budget in found] == [32, 64, 128, 256]
    assert (found[-1].magnitude, found[-1].signed, found[-1].top) == pytest.approx((1.0, 1.0, 1.0))
    assert found[0].signed < found[2].signed < 1
    assert found[0].half_signed < found[-1].half_signed < 1


def test_sizes_beyond_the_measurement_are_left_out():
    assert [budget.examples for budget in budgets(noisy(examples=100))] == [32, 64]
    assert budgets(noisy(examples=31)) == ()
    assert [budget.examples for budget in budgets(noisy(examples=40), (40, 8, 8, 0, 41))] == [8, 40]


@given(st.integers(0, 10_000))
def test_stability_does_not_change_with_the_order_of_components_or_the_scale_of_a_module(seed):
    plain = noisy(seed, 64)
    rng = np.random.default_rng(seed)
    other = measured({name: 7.0 * g[:, rng.permutation(g.shape[1])] for name, g in plain.values.items()})
    for a, b in zip(budgets(plain), budgets(other), strict=True):
        assert vars(a) == pytest.approx(vars(b), abs=1e-12)


def test_modules_without_a_ranking_do_not_count():
    g = noisy(examples=32, ranks=(8,)).values["m0"]
    broken = np.full((32, 3), 1.0)
    broken[3, 1] = math.nan
    others = {"one": g[:, :1], "silent": np.zeros((32, 4)), "broken": broken, "m": g}
    (alone,), (among,) = budgets(measured({"m": g}), (32,)), budgets(measured(others), (32,))
    assert among == alone
    (none,) = budgets(measured({"one": g[:, :1]}), (32,))
    assert none.modules == 0
    assert math.isnan(none.magnitude)
    (single,) = budgets(measured({"m": g}), (1,))
    assert math.isnan(single.half_top)
    assert not math.isnan(single.top)
