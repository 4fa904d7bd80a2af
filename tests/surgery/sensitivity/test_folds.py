"""Every example is held out once a shuffle, and too few examples have no folds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.sensitivity import FEWEST, FOLDS, SHUFFLES, folds_of, unfitted


@given(examples=st.integers(FEWEST, 300))
def test_every_example_is_held_out_once_a_shuffle_and_folds_are_of_one_size(examples):
    folds = folds_of(examples)
    assert folds.count == min(FOLDS, examples // 2)
    assert folds.held.shape == (SHUFFLES * folds.count, examples)
    assert (folds.held.reshape(SHUFFLES, folds.count, examples).sum(axis=1) == 1).all()
    sizes = folds.held.sum(axis=1)
    assert sizes.max() - sizes.min() <= 1
    assert (folds.train == ~folds.held).all()


def test_the_shuffles_differ_and_are_the_same_each_time():
    first, again = folds_of(64), folds_of(64)
    np.testing.assert_array_equal(first.held, again.held)
    by_shuffle = first.held.reshape(SHUFFLES, FOLDS, 64)
    assert not (by_shuffle[0] == by_shuffle[1]).all()


@pytest.mark.parametrize("examples", [0, 1, FEWEST - 1])
def test_too_few_examples_have_no_folds(examples):
    assert folds_of(examples) is None


def test_fewer_shuffles_are_the_first_ones():
    folds = folds_of(32)
    one = folds.first_shuffles(1)
    np.testing.assert_array_equal(one.held, folds.held[:FOLDS])
    assert (one.shuffles, one.count, one.fitted) == (1, FOLDS, True)
    assert folds.first_shuffles(SHUFFLES) is folds


def test_an_edit_that_no_example_has_shaped_is_judged_on_all():
    folds = unfitted(5)
    assert folds.held.all()
    assert (folds.held.shape, folds.shuffles, folds.count, folds.fitted) == ((1, 5), 1, 1, False)
