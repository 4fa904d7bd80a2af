"""The tests keep their promises: exact p values, error rates under the null, the power they announce."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from surgery.errors import DataError
from surgery.evaluation import (
    holm,
    least_detectable,
    mcnemar,
    mean_test,
    paired_effect,
    permutation_rank,
    sign_test,
)
from tests.helpers.shapes import unchecked


def exact(gained: int, lost: int) -> float:
    """Two-sided by counting all equally likely splits that are no likelier than the one seen."""
    n = gained + lost
    weights = [math.comb(n, k) for k in range(n + 1)]
    return sum(w for w in weights if w <= weights[gained]) / 2**n


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 0), (0, 5), (3, 3), (7, 2), (12, 30)])
def test_mcnemar_counts_the_splits_of_the_changed_examples(gained: int, lost: int) -> None:
    before = np.array([0.0] * gained + [1.0] * lost + [0.0, 1.0, 1.0])
    after = np.array([1.0] * gained + [0.0] * lost + [0.0, 1.0, 1.0])
    found = mcnemar(before, after)
    assert (found.gained, found.lost) == (gained, lost)
    assert found.p == pytest.approx(exact(gained, lost), rel=1e-9)


@pytest.mark.parametrize(("above", "below"), [(0, 0), (4, 0), (3, 3), (2, 7)])
def test_the_sign_test_counts_the_splits_of_the_numbers_that_are_not_zero(above: int, below: int) -> None:
    assert sign_test(above, below).p == pytest.approx(exact(above, below), rel=1e-9)


def test_the_test_of_a_mean_is_students_and_knows_numbers_that_are_all_alike() -> None:
    numbers = np.random.default_rng(0).normal(0.3, 1, size=20)
    effect = paired_effect(np.zeros(20), numbers)
    assert mean_test(effect.mean, effect.standard_error, 19) == pytest.approx(stats.ttest_1samp(numbers, 0).pvalue)
    assert (mean_test(0.0, 0.0, 9), mean_test(-0.1, 0.0, 9)) == (1.0, 0.0)
    assert math.isnan(mean_test(0.1, math.nan, 0))


def test_mcnemar_equals_the_share_of_all_sign_patterns_that_are_as_lopsided() -> None:
    before, after = np.array([0, 0, 0, 0, 1, 1.0]), np.array([1, 1, 1, 1, 0, 1.0])
    splits = [abs(sum(signs)) for signs in product((-1, 1), repeat=5)]
    assert mcnemar(before, after).p == pytest.approx(np.mean([split >= 3 for split in splits]))


@pytest.mark.parametrize(
    ("before", "after"), [([0.0, 1.0], [1.0]), ([0.5, 1.0], [1.0, 1.0]), ([0.0, math.nan], [1.0, 1.0])]
)
def test_scores_that_cannot_be_paired_or_are_no_verdicts_are_refused(before: list, after: list) -> None:
    with pytest.raises(DataError):
        unchecked(mcnemar)(np.array(before), np.array(after))


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_monotone_never_below_p_and_rejects_as_its_step_down_rule_does(p: dict[str, float]) -> None:
    adjusted = holm(p)
    assert all(p[name] <= adjusted[name] <= 1 for name in p)
    order = sorted(p, key=lambda name: (p[name], name))
    assert [adjusted[name] for name in order] == sorted(adjusted.values())
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for rank, name in enumerate(order):
            if (len(p) - rank) * p[name] > level:
                break
            rejected.add(name)
        assert {name for name in p if adjusted[name] <= level} == rejected


def test_a_p_that_is_unknown_does_not_count_among_the_tests() -> None:
    adjusted = holm({"a": 0.01, "b": math.nan, "c": 0.5})
    assert adjusted["a"] == pytest.approx(0.02)
    assert math.isnan(adjusted["b"])


def test_under_the_null_holm_names_any_of_many_variants_in_at_most_one_of_twenty_runs() -> None:
    rng = np.random.default_rng(0)
    runs, variants, examples = 400, 8, 200
    wrong = 0
    for _ in range(runs):
        before = (rng.random(examples) < 0.4).astype(float)
        p = {}
        for name in range(variants):
            flip = rng.random(examples) < 0.1  # an edit that moves answers to and fro and helps nobody
            after = np.where(flip, (rng.random(examples) < 0.5).astype(float), before)
            same = (rng.random(examples) < 0.5).astype(float)
            p[str(name)] = mcnemar(np.where(flip, same, before), after).p
        wrong += min(holm(p).values()) <= 0.05
    # three standard errors above 5 %
    assert wrong / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("examples", [64, 256])
def test_the_interval_of_a_paired_difference_covers_the_true_one(examples: int) -> None:
    rng = np.random.default_rng(examples)
    runs, covered = 300, 0
    for run in range(runs):
        before = rng.gamma(2.0, 0.5, examples)
        after = before + rng.exponential(0.1, examples) - 0.08  # skewed, true change +0.02
        effect = paired_effect(before, after, seed=run)
        covered += effect.low <= 0.02 <= effect.high
    # a percentile bootstrap of skewed differences undercovers a little
    assert covered / runs >= 0.95 - 0.02 - 3 * math.sqrt(0.05 * 0.95 / runs)


def test_intervals_of_few_examples_are_as_narrow_as_the_caution_says() -> None:
    rng = np.random.default_rng(8)
    missed = 0
    for run in range(600):
        change = rng.normal(0.1, 1.0, 8) if run % 2 else rng.exponential(1.0, 8) - 0.9
        effect = paired_effect(np.zeros(8), change, seed=run)
        missed += not effect.low <= 0.1 <= effect.high
    # three standard errors of a share of 600
    assert missed / 600 == pytest.approx(0.15, abs=3 * math.sqrt(0.15 * 0.85 / 600))


@pytest.mark.parametrize(("examples", "tests"), [(100, 1), (400, 1), (400, 8)])
def test_a_change_of_the_least_detectable_size_is_found_as_often_as_announced(examples: int, tests: int) -> None:
    rng = np.random.default_rng(5)
    deviation, runs = 0.3, 1500
    change = least_detectable(deviation, examples, tests=tests)
    differences = rng.normal(change, deviation, (runs, examples))
    z = differences.mean(axis=1) / (differences.std(axis=1, ddof=1) / math.sqrt(examples))
    critical = {1: 1.959964, 8: 2.734369}[tests]  # two-sided 5 % and 5/8 %
    assert (np.abs(z) > critical).mean() == pytest.approx(0.8, abs=0.035)


def test_what_cannot_have_a_power_is_refused() -> None:
    for bad in ({"examples": 1}, {"level": 0.0}, {"power": 1.0}, {"tests": 0}):
        with pytest.raises(DataError):
            least_detectable(0.3, **{"examples": 100, **bad})


def test_the_place_among_controls_is_a_permutation_p() -> None:
    controls = [0.01, -0.02, 0.0, 0.03]
    assert permutation_rank(-0.05, controls, lower_is_better=True).p == 1 / 5
    assert permutation_rank(-0.05, controls, lower_is_better=False).p == 1.0
    found = permutation_rank(0.0, controls, lower_is_better=True)  # a tie with a control counts against it
    assert (found.beaten, found.controls, found.p) == (2, 4, 3 / 5)
    for bad in ([], [math.nan]):
        with pytest.raises(DataError):
            permutation_rank(0.0, bad, lower_is_better=True)


def test_if_the_edit_is_one_more_control_its_p_is_uniform() -> None:
    rng = np.random.default_rng(1)
    p = [permutation_rank(d[0], d[1:], lower_is_better=True).p for d in rng.normal(size=(4000, 17))]
    for level in (1 / 17, 5 / 17):
        assert np.mean(np.array(p) <= level + 1e-9) == pytest.approx(level, abs=0.02)
