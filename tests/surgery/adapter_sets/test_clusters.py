"""Members that agree stand side by side, and those that share nothing beyond chance are told."""

from itertools import pairwise

import numpy as np
import pytest

from surgery.adapter_sets import PairValues, cluster_members, matrix_values


def pairs(values, chance=0.05):
    values = np.array(values, dtype=float)
    return PairValues(values, np.zeros_like(values), np.full_like(values, chance), np.ones_like(values))


def blocks(groups):
    """Values of 0.8 inside a group and 0.01, below chance, between groups."""
    groups = np.array(groups)
    return np.where(np.eye(len(groups), dtype=bool), 1.0, np.where(groups[:, None] == groups, 0.8, 0.01))


def test_members_of_a_group_stand_side_by_side_whatever_their_order():
    groups = [0, 1, 0, 2, 1, 0]
    found = cluster_members(pairs(blocks(groups)))
    ordered = [groups[at] for at in found.order]
    assert sorted(found.order) == list(range(6))
    assert sum(a != b for a, b in pairwise(ordered)) == 2
    assert found.alone.tolist() == [False, False, False, True, False, False]


def test_branches_join_all_leaves_at_the_mean_distance_between_the_groups():
    values = [[1.0, 0.9, 0.2], [0.9, 1.0, 0.4], [0.2, 0.4, 1.0]]
    found = cluster_members(pairs(values))
    first, last = sorted(found.branches, key=lambda branch: branch.height)
    assert first.height == pytest.approx(0.1)
    assert last.height == pytest.approx(1 - (0.2 + 0.4) / 2)
    assert first.below == (0, 0)
    assert sorted(last.below) == [0, pytest.approx(0.1)]
    # the member that is nearer to the third stands beside it
    assert abs(found.order.index(1) - found.order.index(2)) == 1


def test_a_pair_without_a_value_is_as_far_apart_as_can_be_and_is_not_said_to_share_nothing():
    found = cluster_members(pairs([[np.nan, np.nan], [np.nan, 1.0]]))
    assert not found.alone.any()
    assert found.branches[0].height == 1


def test_of_related_adapters_the_two_alike_stand_together(matrix):
    found = cluster_members(matrix_values(matrix, "overlap", 2, "input"))
    places = {matrix.members[at]: place for place, at in enumerate(found.order)}
    assert abs(places["a"] - places["b"]) == 1
    assert not found.alone[matrix.members.index("zero")]
    assert found.alone[matrix.members.index("d")]
