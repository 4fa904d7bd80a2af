"""Statistics over calibration examples against plain Python, and the stacks cut from them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.policies import evidence_for, normalise
from surgery.sensitivity import moments_of
from tests.helpers.policies import measured, normalised, norms, spread, tied


@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(1, 5))
def test_the_order_of_the_examples_moves_no_bit(seed, n, rank):
    rng = np.random.default_rng(seed)
    g = np.round(rng.standard_normal((n, rank)) * 10 ** rng.uniform(-6, 6), rng.integers(0, 8))
    g[rng.random(g.shape) < 0.1] *= -0.0
    before, after = moments_of({"m": g}), moments_of({"m": g[rng.permutation(n)]})
    for name in ("mean", "error", "magnitude", "second_moment"):
        assert getattr(before, name).tobytes() == getattr(after, name).tobytes()


def test_a_measurement_that_is_not_finite_spoils_its_own_component_only():
    g = np.array([[1.0, np.nan, np.inf, 1e308], [3.0, 1.0, -np.inf, 1e308]])
    found = moments_of({"m": g})
    assert found.mean[0] == 2
    assert not np.isfinite(found.mean[1:]).any()
    assert not np.isfinite(found.magnitude[1:]).any()


def test_evidence_takes_the_rows_of_the_modules_named_in_their_order():
    values = {"a": [[1.0, -3.0], [3.0, 1.0]], "long": [[7.0, 8.0, 9.0]] * 2, "b": [[0.0, 4.0], [-2.0, 4.0]]}
    sigma = np.array([[2.0, 1.0], [4.0, 3.0]])
    found = evidence_for(["b", "a"], sigma, measured(values).moments)
    assert found.names == ("b", "a")
    assert found.sigma.tolist() == sigma.tolist()
    assert found.signed.tolist() == [[-1.0, 4.0], [2.0, -1.0]]
    assert found.magnitude.tolist() == [[1.0, 4.0], [2.0, 2.0]]
    assert found.second_moment.tolist() == [[2.0, 16.0], [5.0, 5.0]]
    assert found.error == pytest.approx(np.array([[1.0, 0.0], [1.0, 2.0]]))
    assert found.sizes("mean_abs").tolist() == found.magnitude.tolist()
    assert found.sizes("abs_mean").tolist() == [[1.0, 4.0], [2.0, 1.0]]
    assert found.has_gradient.tolist() == [True, True]


def test_evidence_without_a_measurement_has_no_gradient_and_an_unknown_error():
    found = evidence_for(["a"], np.ones((1, 3)), None)
    assert found.has_gradient.tolist() == [False]
    assert not found.signed.any()
    assert np.isnan(found.error).all()


def test_chosen_rows_of_evidence_keep_names_and_numbers_together():
    values = {name: [[float(i), 2.0], [float(i), 4.0]] for i, name in enumerate("abc")}
    found = evidence_for(["a", "b", "c"], np.arange(6.0).reshape(3, 2), measured(values).moments)
    chosen = found.rows(np.array([True, False, True]))
    assert chosen.names == ("a", "c")
    assert chosen.sigma.tolist() == [[0.0, 1.0], [4.0, 5.0]]
    assert chosen.signed.tolist() == [[0.0, 3.0], [2.0, 3.0]]
    assert chosen.second_moment.tolist() == [[0.0, 10.0], [4.0, 10.0]]


@given(tied | spread, norms)
def test_normalising_divides_each_row_by_its_own_norm(values, norm):
    rows = np.array([values, [0.0] * len(values), [-v for v in values]])
    first, zeros, mirrored = normalise(rows, norm)
    assert first == pytest.approx(normalised(values, norm), rel=1e-13)
    assert zeros.tolist() == [0.0] * len(values)
    assert mirrored.tolist() == [-v for v in first]
