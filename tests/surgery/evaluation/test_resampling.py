"""Resampled means: the same draws in blocks as at once."""

import numpy as np

from surgery.evaluation import resampling


def test_means_do_not_depend_on_the_blocks_that_indices_are_drawn_in(monkeypatch):
    numbers = np.random.default_rng(0).normal(size=7)
    at_once = numbers[np.random.default_rng(1).integers(7, size=(50, 7))].mean(axis=1)
    for block in (1, 20, 1000):
        monkeypatch.setattr(resampling, "_BLOCK", block)
        found = resampling.resampled_means(numbers, 50, np.random.default_rng(1))
        np.testing.assert_array_equal(found, at_once)
    assert resampling.resampled_means(numbers, 0, np.random.default_rng(1)).shape == (0,)
