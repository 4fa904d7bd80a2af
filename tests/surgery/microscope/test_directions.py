"""Random directions."""

import numpy as np

from surgery.microscope import random_directions, share_below


def test_directions_are_unit_vectors_drawn_by_a_seed():
    drawn = random_directions(48, 30, seed=1)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=0), 1, atol=1e-6)
    np.testing.assert_array_equal(drawn, random_directions(48, 30, seed=1))
    assert not np.array_equal(drawn, random_directions(48, 30, seed=2))
    # evenly spread: their mean is near the origin
    assert np.linalg.norm(random_directions(48, 4000).mean(axis=1)) < 3 / np.sqrt(4000)


def test_a_share_counts_the_directions_below():
    random = np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0], [4.0, 8.0]])
    np.testing.assert_array_equal(share_below(np.array([2.5, 8.0]), random), [0.5, 0.75])
