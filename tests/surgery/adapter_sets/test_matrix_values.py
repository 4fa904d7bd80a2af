"""What a matrix calls chance is what updates turned at random give."""

from dataclasses import replace

import numpy as np
import pytest

from surgery.adapter_sets import LEVEL, matrix_values
from surgery.errors import PolicyError
from surgery.spectra import expected_level, mean_chance_level
from tests.helpers.refusals import refusal


def test_chance_and_expectation_are_of_the_modules_that_a_pair_shares(matrix):
    found = matrix_values(matrix, "overlap", 2, "output")
    a, c, d, zero = (matrix.members.index(name) for name in ("a", "c", "d", "zero"))
    assert found.chance[a, c] == mean_chance_level(((10, 4), (12, 2)), 2, "overlap")
    assert found.chance[a, d] == mean_chance_level(((10, 2), (12, 2)), 2, "overlap")
    levels = [expected_level(size, 2, "overlap") for size in (10, 12)]
    assert found.expected[a, c] == pytest.approx((4 * levels[0] + 2 * levels[1]) / 6)
    assert found.expected[a, d] == pytest.approx(np.mean(levels))
    assert np.isnan(found.chance[a, zero])
    assert not found.beyond[a, zero]


def test_members_that_share_directions_are_beyond_chance_and_strangers_are_not(matrix):
    a, b, c = (matrix.members.index(name) for name in "abc")
    for measure in ("overlap", "cosine"):
        found = matrix_values(matrix, measure, 2, "input")
        assert found.beyond[a, b]
        assert not found.beyond[a, c]


@pytest.mark.parametrize("measure", ["overlap", "principal", "cosine"])
def test_a_part_of_a_matrix_has_the_numbers_of_the_whole(matrix, measure):
    chosen = [3, 0]
    some = matrix_values(matrix.of(chosen), measure, 2, "input")
    for name, values in vars(matrix_values(matrix, measure, 2, "input")).items():
        np.testing.assert_array_equal(getattr(some, name), values[np.ix_(chosen, chosen)])
    assert matrix.of(chosen).members == ("d", "a")


@pytest.mark.parametrize("modules", [1, 12])
def test_one_random_pair_in_a_hundred_has_a_larger_cosine_than_the_chance_level(matrix, modules):
    """Updates of a rank turned at random, whose cosines are computed densely."""
    rng, draws, out, into, rank = np.random.default_rng(0), 2000, 24, 30, 2
    sigma = np.array([3.0, 1.0])

    def bases(size):
        return np.linalg.qr(rng.normal(size=(draws, modules, size, rank)))[0]

    sides = [[bases(size) for size in (out, into)] for _ in range(2)]
    U, V = (np.einsum("nmda,nmdb->nmab", sides[0][side], sides[1][side]) for side in (0, 1))
    cosines = np.einsum("a,nmab,nmab,b->n", sigma, U, V, sigma) / (modules * (sigma**2).sum())
    square, fourth = np.full((2, 2), (sigma**2).sum() ** 2), np.full((2, 2), (sigma**4).sum() ** 2)
    place = matrix.places[0]
    shape = (modules, 2, 2)
    made = replace(
        matrix,
        members=("a", "b"),
        places=(place,) * modules,
        ks=(1,),
        counts=np.ones((modules, 1, 2, 2), np.int32),
        overlaps=np.zeros((2, modules, 1, 2, 2), np.float32),
        principals=np.zeros((2, modules, 2, 2), np.float32),
        inner=np.zeros(shape),
        squares=np.full((modules, 2), (sigma**2).sum()),
        spread=np.broadcast_to(square / (out * into), shape),
        tails=np.broadcast_to(fourth / (out * into) ** 2, shape),
    )
    chance = matrix_values(made, "cosine", 1, "output").chance[0, 1]
    above = (np.abs(cosines) > chance).mean()
    error = np.sqrt(LEVEL * (1 - LEVEL) / draws)
    # the quantile is on the safe side where few directions make the tails heavy
    assert above < LEVEL + 4 * error
    if modules > 1:
        assert above > LEVEL / 2 - 4 * error


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"measure": "angle"}, "not known"),
        ({"side": "left"}, "not known"),
        ({"k": 3}, "choose one of 1, 2, 4"),
        ({"family": "nowhere"}, "another scope"),
        ({"layer": 9}, "another scope"),
    ],
)
def test_what_a_matrix_does_not_have_is_refused(matrix, asked, words):
    settings = {"measure": "overlap", "k": 2, "side": "output", **asked}
    assert words in refusal(PolicyError, lambda: matrix_values(matrix, **settings))
