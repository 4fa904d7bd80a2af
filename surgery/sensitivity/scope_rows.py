"""The per-example sensitivities of one scope, and what every fold of the examples says of its components."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int
from numpy import ndarray

from surgery.sensitivity.conflict import Conflict, conflict_of
from surgery.sensitivity.folds import Folds
from surgery.sensitivity.joint_rows import JointRows, joint_rows


@dataclass(frozen=True)
class FoldStatistics:
    """Statistics of g over the training examples of every fold, as `Moments` has them of all examples."""

    mean: Float64[ndarray, "fold component"]
    error: Float64[ndarray, "fold component"]
    magnitude: Float64[ndarray, "fold component"]
    second_moment: Float64[ndarray, "fold component"]


@dataclass(frozen=True, eq=False)
class ScopeRows:
    """g of the modules of one scope, module after module; computed once for a measurement and a scope.

    The columns stand in an order of their own content, `order` of the slice's examples, so that the order of the
    examples moves no bit. Components whose measurement is not `finite` have zeros. `indices` holds the indices of
    each module's components. `tokens`, `label_free` and `protected` are as in `Moments`.
    """

    indices: Mapping[str, Int[ndarray, " rank"]]
    g: Float64[ndarray, "component example"]
    order: Int[ndarray, " example"]
    finite: Bool[ndarray, " component"]
    q: Float64[ndarray, " component"]
    tokens: float = float("nan")
    label_free: bool = False
    protected: tuple["ScopeRows", ...] = ()

    @property
    def examples(self) -> int:
        return int(self.order.size)

    @cached_property
    def joint(self) -> JointRows:
        """These examples and those of the protected slices side by side."""
        return joint_rows(self, self.protected)

    @cached_property
    def kernel(self) -> Float64[ndarray, "example example"]:
        """GᵀG, the inner products of the examples."""
        kernel: ndarray = self.g.T @ self.g
        return kernel

    @cached_property
    def eigen(self) -> tuple[Float64[ndarray, " example"], Float64[ndarray, "example example"]]:
        """Eigenvalues of GᵀG, from 0 up, and eigenvectors in columns."""
        values, vectors = np.linalg.eigh(self.kernel)
        return np.maximum(values, 0.0), vectors

    @cached_property
    def conflict(self) -> Conflict:
        """How the examples' gradients stand to each other, with the indices of the slice's examples."""
        found = conflict_of(self.kernel)
        return replace(found, compared=self.order[found.compared])

    @cached_property
    def groups(self) -> tuple[tuple[tuple[str, ...], Int[ndarray, "module rank"]], ...]:
        """Modules of equal rank, which can be stacked: their names, and the indices of their components."""
        by_rank: dict[int, list[str]] = {}
        for name, at in self.indices.items():
            by_rank.setdefault(at.size, []).append(name)
        return tuple(
            (tuple(group), np.stack([self.indices[name] for name in group])) for group in by_rank.values()
        )

    def held(self, folds: Folds) -> Bool[ndarray, "fold example"]:
        """What each fold holds out, in the order of the columns."""
        return folds.held[:, self.order]

    def statistics(self, folds: Folds) -> FoldStatistics:
        """Statistics over the training examples of every fold, all by matrix products; kept for the last folds."""
        kept = self.__dict__.setdefault("_statistics", {})
        if folds not in kept:
            kept.clear()
            kept[folds] = self._statistics_of(folds)
        found: FoldStatistics = kept[folds]
        return found

    def _statistics_of(self, folds: Folds) -> FoldStatistics:
        train = ~self.held(folds)
        count = train.sum(axis=1, keepdims=True)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            mean, magnitude, second = (train @ each.T / count for each in (self.g, np.abs(self.g), self.g**2))
            error = np.sqrt(np.maximum(second - mean**2, 0.0) / (count - 1))
        found = mean, error, magnitude, second
        for each in found:
            each[:, ~self.finite] = np.nan
        return FoldStatistics(*found)


def scope_rows(
    indices: Mapping[str, Int[ndarray, " rank"]],
    g: Float64[ndarray, "component example"],
    q: Float64[ndarray, " component"],
    names: Sequence[str],
) -> ScopeRows:
    """The rows of `names` among all measured modules."""
    places = np.concatenate([indices[name] for name in names])
    ends = np.cumsum([indices[name].size for name in names])
    own = {name: np.arange(end - indices[name].size, end) for name, end in zip(names, ends, strict=True)}
    mine = g[places]
    finite = np.isfinite(mine).all(axis=1)
    mine[~finite] = 0.0
    by_example = np.ascontiguousarray(mine.T)
    order = np.array(sorted(range(len(by_example)), key=[each.tobytes() for each in by_example].__getitem__))
    return ScopeRows(own, np.ascontiguousarray(mine[:, order]), order, finite, q[places])
