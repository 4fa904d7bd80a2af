"""What random subspaces give, at the level of this page: what every cell of the map is read against."""

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.spectra import chance_level, expected_level

LEVEL = 0.01  # the share of random pairs that lie beyond the chance level
_STEPS = 24
_LEAST = 4  # times random: a map without anything beyond it does not look full of it


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


def cuts(
    values: Float64[ndarray, "row column"], reference: Float64[ndarray, " row"], *, same: bool
) -> dict[str, float]:
    """Where colours are cut: `value` for the values themselves, in (0, 1], and `ratio` for values over `reference`.

    That is the largest value between different modules, and at least a few times random. `values` are NaN
    where there is none; with `same` the diagonal compares modules with themselves and does not count.
    """
    counted = np.isfinite(values) & ~(np.eye(*values.shape, dtype=np.bool_) & same)
    most = np.where(counted, values, 0.0).max(axis=1, initial=0.0)
    some = most > 0
    if not some.any():
        return {"value": 1.0, "ratio": 1.0}
    high = np.maximum(most, _LEAST * reference)[some]
    return {"value": min(float(high.max()), 1.0), "ratio": float((high / reference[some]).max())}
