"""The statistics of a fold are those of a measurement of its training examples alone."""

import numpy as np
import pytest

from tests.helpers.policies import measured

RNG = np.random.default_rng(3)
VALUES = {"a": RNG.normal(size=(20, 4)), "b": RNG.normal(size=(20, 2)), "c": RNG.normal(size=(20, 3))}
NAMES = ("c", "a")


def test_the_statistics_of_a_fold_are_the_moments_of_its_training_examples():
    sensitivity = measured(VALUES)
    rows, folds = sensitivity.moments.of_scope(NAMES), sensitivity.folds
    found = rows.statistics(folds)
    for fold, train in enumerate(folds.train):
        alone = measured({name: VALUES[name][train] for name in NAMES}).moments
        for name in NAMES:
            mine, theirs = rows.indices[name], alone.indices[name]
            for field in ("mean", "error", "magnitude", "second_moment"):
                assert getattr(found, field)[fold, mine] == pytest.approx(getattr(alone, field)[theirs], rel=1e-12)


def test_a_component_whose_measurement_is_not_finite_is_known_and_adds_nothing_to_the_inner_products():
    values = {name: g.copy() for name, g in VALUES.items()}
    values["a"][3, 1] = np.inf
    values["c"][5, 0] = np.nan
    sensitivity = measured(values)
    rows = sensitivity.moments.of_scope(NAMES)
    assert np.flatnonzero(~rows.finite).tolist() == [0, 4]
    assert np.isnan(rows.statistics(sensitivity.folds).mean[:, ~rows.finite]).all()
    without = np.concatenate([VALUES["c"][:, 1:], VALUES["a"][:, [0, 2, 3]]], axis=1)[rows.order]
    assert rows.kernel == pytest.approx(without @ without.T, rel=1e-12)


def test_the_order_of_the_examples_moves_no_bit():
    turned = np.random.default_rng(0).permutation(20)
    rows = measured(VALUES).moments.of_scope(NAMES)
    others = measured({name: g[turned] for name, g in VALUES.items()}).moments.of_scope(NAMES)
    np.testing.assert_array_equal(rows.g, others.g)
    np.testing.assert_array_equal(rows.order, turned[others.order])
    for mine, theirs in zip(rows.eigen, others.eigen, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_eigenvectors_diagonalise_the_inner_products():
    rows = measured(VALUES).moments.of_scope(NAMES)
    values, vectors = rows.eigen
    assert (vectors * values) @ vectors.T == pytest.approx(rows.kernel, abs=1e-12 * np.abs(rows.kernel).max())
    assert (values >= 0).all()


def test_a_scope_is_cut_out_once():
    moments = measured(VALUES).moments
    assert moments.of_scope(["a", "b"]) is moments.of_scope(("a", "b"))
    assert moments.of_scope(["b", "a"]) is not moments.of_scope(["a", "b"])
