"""Random subspaces against closed forms, exact quantiles and Gaussian matrices put through QR."""

import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from surgery.errors import PolicyError
from surgery.spectra import (
    MEASURES,
    chance_level,
    expected_level,
    mean_chance_level,
    random_cosine,
    random_overlap,
    random_overlaps,
)
from tests.helpers.refusals import refusal


@cache
def brute_force(dimension, k, draws, seed=3):
    """Overlaps of the first k axes with the span of a Gaussian matrix."""
    rng = np.random.default_rng(seed)
    bases = np.linalg.qr(rng.standard_normal((draws, dimension, k)))[0]
    return (bases[:, :k] ** 2).sum(axis=(1, 2)) / k


def drawn(dimension, k, draws=20_000, seed=0):
    return random_overlaps(dimension, k, draws, np.random.default_rng(seed))


def test_expectations_equal_their_closed_forms_in_few_dimensions():
    assert random_overlap(4, 576) == 4 / 576
    assert random_overlap(9, 4) == 1.0
    # exact in one, two and three dimensions: 1, the mean of |cos| on a circle, and on a sphere
    assert random_cosine(1) == pytest.approx(1.0, rel=1e-12)
    assert random_cosine(2) == pytest.approx(2 / math.pi, rel=1e-12)
    assert random_cosine(3) == pytest.approx(0.5, rel=1e-12)
    assert random_cosine(4096) == pytest.approx(math.sqrt(2 / (math.pi * 4096)), rel=1e-3)
    assert expected_level(576, 4, "overlap") == random_overlap(4, 576)
    assert expected_level(576, 4, "principal") == random_cosine(576)


@pytest.mark.parametrize(("dimension", "k"), [(2, 1), (6, 2), (7, 3), (6, 3), (5, 4), (8, 5), (30, 5), (24, 16)])
def test_draws_are_distributed_like_subspaces_of_gaussian_matrices(dimension, k):
    assert stats.ks_2samp(drawn(dimension, k), brute_force(dimension, k, 20_000)).pvalue > 0.01


@pytest.mark.parametrize("dimension", [2, 3, 10, 14336])
def test_the_square_of_one_cosine_follows_its_beta_distribution(dimension):
    assert stats.kstest(drawn(dimension, 1), stats.beta(0.5, (dimension - 1) / 2).cdf).pvalue > 0.01


@given(st.integers(2, 40).flatmap(lambda d: st.tuples(st.just(d), st.integers(1, d))), st.integers(0, 99))
def test_mean_and_variance_of_draws_are_those_of_random_projections(shape, seed):
    d, k = shape
    overlaps = drawn(d, k, 4000, seed)
    # tr(PQ) of random projections of rank k: mean k²/d, variance 2k²(d−k)²/(d²(d−1)(d+2))
    deviation = math.sqrt(2) * k * (d - k) / (d * math.sqrt((d - 1) * (d + 2))) / k
    assert overlaps.mean() == pytest.approx(k / d, abs=5 * deviation / math.sqrt(4000) + 1e-12)
    assert overlaps.std() == pytest.approx(deviation, rel=0.15, abs=1e-12)
    assert overlaps.min() >= max(0.0, (2 * k - d) / k) - 1e-12
    assert overlaps.max() <= 1 + 1e-12


@pytest.mark.parametrize("level", [0.5, 0.05, 0.01, 0.001])
@pytest.mark.parametrize("dimension", [2, 7, 576, 14336])
def test_the_level_of_one_direction_is_the_exact_quantile(dimension, level):
    square = stats.beta.isf(level, 0.5, (dimension - 1) / 2)
    assert chance_level(dimension, 1, "overlap", level=level) == pytest.approx(square, rel=1e-9)
    for k in (1, 2):  # the principal similarity has no k
        found = chance_level(dimension, k, "principal", level=level)
        assert found == pytest.approx(math.sqrt(square), rel=1e-9)


@pytest.mark.parametrize(("dimension", "k"), [(40, 4), (40, 16), (40, 25)])
@pytest.mark.parametrize("level", [0.1, 0.01])
def test_random_pairs_exceed_the_level_as_often_as_it_says(dimension, k, level):
    above = brute_force(dimension, k, 10_000) > chance_level(dimension, k, "overlap", level=level, draws=40_000)
    deviation = math.sqrt(level * (1 - level) * (1 / 10_000 + 1 / 40_000))
    assert above.mean() == pytest.approx(level, abs=3 * deviation)


def test_a_subspace_of_all_dimensions_always_overlaps_itself():
    assert chance_level(6, 6, "overlap") == 1.0
    assert chance_level(1, 1, "principal") == 1.0
    assert drawn(6, 6, 5).tolist() == [1.0] * 5


@pytest.mark.parametrize(("dimension", "k"), [(576, 4), (14336, 16), (14336, 64), (100, 90)])
def test_the_level_lies_above_the_expectation_and_falls_with_the_dimension(dimension, k):
    for measure in MEASURES:
        found = chance_level(dimension, k, measure)
        assert expected_level(dimension, k, measure) < found < chance_level(dimension, k, measure, level=0.001)
        assert found > chance_level(dimension + 100, k, measure)


def test_a_level_is_the_same_every_time_and_moves_little_with_the_seed():
    first = chance_level(4096, 4, "overlap", seed=1)
    chance_level.cache_clear()
    assert chance_level(4096, 4, "overlap", seed=1) == first
    assert chance_level(4096, 4, "overlap", seed=2) == pytest.approx(first, rel=0.05)
    assert chance_level(4096, 4, "overlap", seed=2) != first


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((8, 0, "overlap"), {}),
        ((8, 9, "overlap"), {}),
        ((8, 2, "cosine"), {}),
        ((8, 2, "overlap"), {"level": 0.0}),
        ((8, 2, "overlap"), {"level": 1.0}),
        ((8, 2, "overlap"), {"level": 0.0001}),
    ],
)
def test_a_level_that_does_not_exist_is_refused(shape, options):
    with pytest.raises(PolicyError):
        chance_level(*shape, **options)


@pytest.mark.parametrize("measure", ["overlap", "principal"])
def test_the_chance_level_of_a_mean_is_exceeded_by_one_mean_in_a_hundred(measure):
    rng, draws = np.random.default_rng(5), 4000
    spaces, k = ((20, 3), (9, 2)), 1 if measure == "principal" else 3
    total = np.zeros(draws)
    for dimension, count in spaces:
        left, right = (np.linalg.qr(rng.normal(size=(draws, count, dimension, k)))[0] for _ in range(2))
        squares = (np.swapaxes(left, -1, -2) @ right) ** 2
        values = squares.sum(axis=(-1, -2)) / k
        total += (np.sqrt(values) if measure == "principal" else values).sum(axis=1)
    level = mean_chance_level(spaces, k, measure)
    # 1 % of 4000 draws, and as many decided where the level lies
    assert (total / 5 > level).mean() == pytest.approx(0.01, abs=5 * np.sqrt(2 * 0.01 / draws))


def test_the_chance_level_of_one_pair_is_that_of_a_mean_of_one_and_many_pairs_come_close_to_the_expectation():
    assert mean_chance_level(((30, 1),), 2, "overlap") == chance_level(30, 2, "overlap")
    few, many = (mean_chance_level(((30, count),), 2, "overlap") for count in (64, 65))
    assert many == pytest.approx(few, rel=0.02)
    assert mean_chance_level(((30, 100_000),), 2, "overlap") == pytest.approx(2 / 30, rel=0.01)
    assert "at least one" in refusal(PolicyError, lambda: mean_chance_level((), 2, "overlap"))
