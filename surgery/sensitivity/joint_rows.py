"""The per-example sensitivities of a target slice and of those that an edit is not to hurt, side by side.

A step that is a combination of examples is told by its coefficients: what every example says of it is a product with
the kernel of all of them, which is small where there are many components.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from surgery.sensitivity.folds import Folds, paired_folds

if TYPE_CHECKING:
    from surgery.sensitivity.scope_rows import ScopeRows


@dataclass(frozen=True, eq=False)
class JointRows:
    """Examples of several slices, the target's first, and GᵀG of all of them.

    `slices` holds the columns of each slice in `g`. Of the protected ones, `label_free` says that the answers are the
    model's own, so that the mean g is zero in exact arithmetic, and `tokens` is their mean number, NaN where unknown.
    """

    g: Float64[ndarray, "component example"]
    kernel: Float64[ndarray, "example example"]
    slices: tuple[slice, ...]
    label_free: tuple[bool, ...]
    tokens: tuple[float, ...]

    @cached_property
    def means(self) -> Float64[ndarray, "example slice"]:
        """The mean g of every slice as a combination of examples: nothing where it is zero by construction."""
        means = np.zeros((len(self.kernel), len(self.slices)))
        for place, (columns, free) in enumerate(zip(self.slices, (False, *self.label_free), strict=True)):
            means[columns, place] = 0.0 if free else 1 / (columns.stop - columns.start)
        return means

    @cached_property
    def along_means(self) -> Float64[ndarray, "example slice"]:
        """gᵢ·ḡ of every example and slice."""
        along: ndarray = self.kernel @ self.means
        return along

    @cached_property
    def eigenvalues(self) -> tuple[float, ...]:
        """The mean non-zero eigenvalue of F = GᵀG/n of each slice."""
        diagonal, found = np.diagonal(self.kernel), []
        for columns in self.slices:
            n = columns.stop - columns.start
            rank = min(n, max(int(self.g[:, columns].any(axis=1).sum()), 1))
            found.append(float(diagonal[columns].sum() / n / rank))
        return tuple(found)

    def expected(self, step: Float64[ndarray, " example"]) -> tuple[tuple[float, float], ...]:
        """ḡ_P·δ and T/2·mean((g_P·δ)²) of every protected slice for δ = G·step, in nats per answer token."""
        along = self.kernel @ step
        return tuple(
            (float(self.means[:, place + 1] @ along), tokens / 2 * float((along[columns] ** 2).mean()))
            for place, (columns, tokens) in enumerate(zip(self.slices[1:], self.tokens, strict=True))
        )

    def only(self, kept: Bool[ndarray, " example"]) -> "JointRows":
        """The same of some examples, at least one of every slice."""
        ends = np.cumsum([0, *(int(kept[columns].sum()) for columns in self.slices)]).tolist()
        own = tuple(map(slice, ends, ends[1:]))
        return replace(self, g=self.g[:, kept], kernel=self.kernel[np.ix_(kept, kept)], slices=own)


def joint_rows(target: "ScopeRows", protected: "Sequence[ScopeRows]") -> JointRows:
    """The slices side by side; a component that no finite gradient reached in one of them is zero in all."""
    parts = [target, *protected]
    finite = np.all([part.finite for part in parts], axis=0)
    g = np.concatenate([part.g for part in parts], axis=1) * finite[:, np.newaxis]
    ends = np.cumsum([0, *(part.examples for part in parts)]).tolist()
    return JointRows(
        g,
        g.T @ g,
        tuple(map(slice, ends, ends[1:])),
        tuple(part.label_free for part in protected),
        tuple(part.tokens for part in protected),
    )


def joint_training(
    target: "ScopeRows", protected: "Sequence[ScopeRows]", folds: Folds
) -> Bool[ndarray, "fold example"]:
    """Which examples of the slices side by side each fold trains on; all of a slice with too few to hold out some."""
    trained = [~target.held(folds)]
    for part in protected:
        own = paired_folds(folds, part.examples)
        trained.append(np.ones((len(folds.held), part.examples), dtype=bool) if own is None else ~part.held(own))
    return np.concatenate(trained, axis=1)
