"""Cosines between gradients against pairs taken one by one; groups where they were planted and in no mere cloud."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.sensitivity import conflict_of
from tests.helpers.policies import measured


def kernel_of(g: np.ndarray) -> np.ndarray:
    """Of gradients in columns."""
    return np.ascontiguousarray(g.T @ g)


@settings(max_examples=4)
@given(st.integers(0, 10_000), st.integers(8, 20))
def test_cosines_are_those_of_all_pairs(seed, examples):
    g = np.random.default_rng(seed).normal(0.3, 1.0, (7, examples))
    cosines = [
        g[:, i] @ g[:, j] / np.linalg.norm(g[:, i]) / np.linalg.norm(g[:, j])
        for i, j in combinations(range(examples), 2)
    ]
    found = conflict_of(kernel_of(g))
    assert found.cosine == pytest.approx(np.mean(cosines), abs=1e-12)
    assert found.opposed == pytest.approx(np.mean(np.array(cosines) < 0))
    np.testing.assert_array_equal(found.compared, np.arange(examples))


def test_a_common_direction_is_beyond_chance_and_gradients_without_one_are_not():
    rng = np.random.default_rng(0)
    lost = [conflict_of(kernel_of(rng.normal(size=(30, 24)))).common for _ in range(12)]
    assert sum(lost) <= 2, "97.5 % of random signs lie below"
    assert conflict_of(kernel_of(rng.normal(size=(30, 24)) + 0.5)).common


def test_planted_groups_are_found_with_their_cosines():
    rng = np.random.default_rng(1)
    sides = np.arange(40) % 3 == 0
    g = rng.normal(size=(60, 40)) + rng.normal(size=(60, 1)) * np.where(sides, 1.0, -1.0)
    found = conflict_of(kernel_of(g))
    assert found.groups is not None
    assert found.p == pytest.approx(0.01)
    first = found.groups.first
    assert (first == sides).all() or (first == ~sides).all()
    unit = g / np.linalg.norm(g, axis=0)
    pairs = [(sides[i] == sides[j], unit[:, i] @ unit[:, j]) for i, j in combinations(range(40), 2)]
    assert found.groups.within == pytest.approx(np.mean([c for same, c in pairs if same]))
    assert found.groups.between == pytest.approx(np.mean([c for same, c in pairs if not same]))
    assert found.groups.between < 0 < found.groups.within


def test_a_long_cloud_is_no_two_groups():
    rng = np.random.default_rng(2)
    longer = np.geomspace(4, 0.1, 50)[:, np.newaxis]
    assert [conflict_of(kernel_of(rng.normal(size=(50, 40)) * longer)).groups for _ in range(4)] == [None] * 4


def test_rows_without_a_gradient_are_left_out_and_too_few_say_nothing():
    g = np.random.default_rng(3).normal(size=(5, 12))
    g[:, 4] = 0.0
    assert conflict_of(kernel_of(g)).compared.tolist() == [*range(4), *range(5, 12)]
    few = conflict_of(kernel_of(g[:, :8]))
    assert np.isnan([few.cosine, few.by_chance, few.opposed, few.p]).all()
    assert few.groups is None
    assert not few.common


def test_a_scope_names_the_examples_of_the_slice_whatever_order_it_keeps_them_in():
    rng = np.random.default_rng(4)
    g = rng.normal(size=(12, 9)) + rng.normal(size=(1, 9)) * np.where(np.arange(12) < 5, 2.0, -2.0)[:, np.newaxis]
    rows = measured({"a": g}).moments.of_scope(("a",))
    found = rows.conflict
    assert sorted(found.compared.tolist()) == list(range(12))
    assert found is rows.conflict
    direct = conflict_of(kernel_of(g.T))
    assert found.cosine == pytest.approx(direct.cosine)
    assert found.groups is not None
    assert {frozenset(found.compared[side].tolist()) for side in (found.groups.first, ~found.groups.first)} == {
        frozenset(range(5)),
        frozenset(range(5, 12)),
    }
