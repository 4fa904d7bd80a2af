"""Which members of a matrix belong together: average linkage, leaves in the order that puts the nearest side by side."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from surgery.adapter_sets.matrix_values import PairValues


@dataclass(frozen=True)
class Branch:
    """Two groups joined: their places among the ordered leaves, the heights they come from, and that they join at.

    Leaves stand at 0, 1, …; heights are distances, 1 minus the mean value between the groups.
    """

    places: tuple[float, float]
    below: tuple[float, float]
    height: float


@dataclass(frozen=True)
class Clusters:
    """Members in an order that keeps similar ones together.

    `alone` are those that have values with others, none of them beyond chance.
    """

    order: tuple[int, ...]
    branches: tuple[Branch, ...]
    alone: Bool[ndarray, " member"]


def cluster_members(found: PairValues) -> Clusters:
    """Members grouped by 1 − value, average linkage with optimal leaf order (Bar-Joseph et al. 2001).

    A pair without a value, and one that is not distinguishable from random, counts as sharing nothing: distance 1.
    """
    from scipy.cluster.hierarchy import (
        dendrogram,
        leaves_list,
        linkage,
    )  # slow to import, and commands need none of it

    n = len(found.values)
    others = ~np.eye(n, dtype=np.bool_)
    beyond, known = found.beyond & others, np.isfinite(found.values) & others
    alone: Bool[ndarray, " member"] = np.asarray(known.any(axis=1) & ~beyond.any(axis=1))
    if n < 2:
        return Clusters(tuple(range(n)), (), alone)
    joined = linkage(_condensed(np.where(beyond, found.values, 0.0)), "average", optimal_ordering=True)
    drawn = dendrogram(joined, no_plot=True)
    branches = tuple(
        Branch(((x[0] - 5) / 10, (x[2] - 5) / 10), (float(y[0]), float(y[3])), float(y[1]))
        for x, y in zip(drawn["icoord"], drawn["dcoord"], strict=True)
    )
    return Clusters(tuple(int(leaf) for leaf in leaves_list(joined)), branches, alone)


def _condensed(values: Float64[ndarray, "member member"]) -> Float64[ndarray, " pair"]:
    distances = 1.0 - (values + values.T) / 2
    return distances[np.triu_indices(len(distances), 1)]
