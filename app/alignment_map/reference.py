"""What random subspaces give, at the level of this page: what every cell of the map is read against."""

import numpy as np

from surgery.chance import chance_level, expected_level

LEVEL = 0.01  # the share of random pairs that lie beyond the chance level
_STEPS = 24


def expected(dimension: int, k: int, measure: str) -> float:
    """The expectation of a measure; no subspace has more directions than its space."""
    return expected_level(dimension, min(k, dimension), measure)


def chance(dimension: int, k: int, measure: str) -> float:
    """The value that one random pair in a hundred exceeds."""
    return chance_level(dimension, min(k, dimension), measure, level=LEVEL)


def offered_ks(largest: int) -> list[int]:
    """The values of k on offer up to `largest`: all, or some two dozen of many."""
    if largest <= _STEPS:
        return list(range(1, largest + 1))
    return [int(k) for k in np.unique(np.geomspace(1, largest, _STEPS).round())]
