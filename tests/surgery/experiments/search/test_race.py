"""The race against the unedited adapter: when a trial is stopped, and how seldom wrongly."""

import numpy as np
import pytest
from scipy.stats import binom, ttest_1samp

from surgery.experiments.search import LEVEL, dominated, looks, objectives_named, surely_worse

LOSS, EXACT, PARAMETERS = objectives_named(("loss", "exact", "parameters"))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (1, (1,)),
        (15, (15,)),
        (16, (8, 16)),
        (64, (8, 16, 32, 64)),
        (100, (12, 25, 50, 100)),
        (256, (32, 64, 128, 256)),
    ],
)
def test_looks_double_and_begin_with_enough_rows(rows, expected):
    assert looks(rows) == expected


def test_a_worse_mean_is_sure_by_students_t_one_sided():
    rng = np.random.default_rng(0)
    for shift in (-0.5, 0.0, 0.3, 0.6, 1.0):
        change = rng.standard_normal(12) + shift
        expected = ttest_1samp(change, 0.0, alternative="greater").pvalue < 0.05
        assert surely_worse(LOSS, change, 0.05) == expected


def test_fewer_right_answers_are_sure_by_the_sign_test_of_those_that_changed():
    for lost in range(12):
        for gained in range(4):
            change = np.array([-1.0] * lost + [1.0] * gained + [0.0] * 5)
            tail = binom.cdf(gained, lost + gained, 0.5) if lost > gained else 1.0
            assert surely_worse(EXACT, change, 0.05) == (tail <= 0.05)


def test_a_trial_is_dominated_only_where_it_is_worse_in_everything():
    worse, better = np.linspace(0.5, 1.5, 10), -np.linspace(0.5, 1.5, 10)
    lost = -np.ones(10)
    both = (LOSS, EXACT)
    assert dominated(both, {"loss": worse, "exact": lost}, {}, 0.01)
    assert not dominated(both, {"loss": better, "exact": lost}, {}, 0.01)
    assert not dominated(both, {"loss": worse, "exact": -lost}, {}, 0.01)
    sized = (LOSS, PARAMETERS)
    assert dominated(sized, {"loss": worse}, {"parameters": 0.0}, 0.01)
    assert not dominated(sized, {"loss": worse}, {"parameters": -0.1}, 0.01)


def test_rows_that_are_too_few_or_all_the_same_say_nothing_and_a_broken_model_everything():
    assert not surely_worse(LOSS, np.zeros(0), 0.05)
    assert not surely_worse(LOSS, np.array([3.0]), 0.05)
    assert not surely_worse(LOSS, np.ones(9), 0.05)
    assert surely_worse(LOSS, np.array([1.0, np.nan]), 0.05)


def test_a_trial_that_is_no_worse_is_stopped_at_any_look_no_more_often_than_promised():
    """Over 1,000 trials without an effect; the bound is the 1 − 10⁻⁶ quantile of the count at the promised rate."""
    rng, rows, trials = np.random.default_rng(1), 64, 1000
    stops = looks(rows)[:-1]
    changes = rng.standard_normal((trials, rows))
    stopped = sum(
        any(dominated((LOSS,), {"loss": each[:stop]}, {}, LEVEL / len(stops)) for stop in stops)
        for each in changes
    )
    assert 0 < stopped <= binom.ppf(1 - 1e-6, trials, LEVEL)
