"""Folds of a measurement's examples: each is held out once a shuffle, while an edit is computed from the others.

What the held-out examples say of that edit is what rows that nobody has seen would say, but for the eighth of the
examples that the edit lacks (cross-fitting).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

FOLDS, SHUFFLES = 8, 3
FEWEST = 8  # examples, below which there are no folds
_SEED = 20


@dataclass(frozen=True, eq=False)
class Folds:
    """Which examples each fold holds out, the folds of one shuffle after those of another.

    In every shuffle each example is held out once. `fitted` tells that an edit of a fold is computed from the examples
    that it does not hold out; else there is one fold that holds all, for an edit that no example has shaped.
    """

    held: Bool[ndarray, "fold example"]
    shuffles: int
    fitted: bool = True

    @property
    def count(self) -> int:
        """The folds of one shuffle."""
        return len(self.held) // self.shuffles

    @property
    def train(self) -> Bool[ndarray, "fold example"]:
        return ~self.held

    def first_shuffles(self, count: int) -> "Folds":
        """The folds of the first `count` shuffles, for a scope that is too large for all of them."""
        return self if count >= self.shuffles else Folds(self.held[: count * self.count], count)


def folds_of(examples: int) -> Folds | None:
    """The folds of so many examples, seeded: 8 of 16 or more, of fewer as many as hold two; None below 8."""
    if examples < FEWEST:
        return None
    count = min(FOLDS, examples // 2)
    shuffled = [np.random.default_rng([_SEED, each]).permutation(examples) % count for each in range(SHUFFLES)]
    held = np.concatenate([fold == np.arange(count)[:, np.newaxis] for fold in shuffled])
    return Folds(held, SHUFFLES)


def paired_folds(folds: Folds, examples: int) -> Folds | None:
    """The folds of another slice of so many examples, one for each of `folds`; None where it has too few for as many."""
    own = folds_of(examples)
    return own.first_shuffles(folds.shuffles) if own is not None and own.count == folds.count else None


def unfitted(examples: int) -> Folds:
    """One fold that holds all examples, for an edit that none of them has shaped."""
    return Folds(np.ones((1, examples), dtype=bool), 1, fitted=False)
