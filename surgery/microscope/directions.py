"""Random directions, which tell what the reading and the writing of a component are worth."""

import numpy as np
from jaxtyping import Float, Float32, Float64
from numpy import ndarray

DIRECTIONS = 200
SURE = 0.95  # share of random directions that a component has to pass


def random_directions(size: int, count: int = DIRECTIONS, seed: int = 0) -> Float32[ndarray, "d direction"]:
    """Unit vectors drawn evenly from the sphere of a space of this size, one in each column."""
    drawn = np.random.default_rng(seed).standard_normal((size, count), dtype=np.float32)
    return drawn / np.linalg.norm(drawn, axis=0)


def share_below(
    values: Float[ndarray, " value"], random: Float[ndarray, "direction value"]
) -> Float64[ndarray, " value"]:
    """The share of random directions with a smaller number than each value, from 0 to 1."""
    return np.asarray((random < values).mean(axis=0), dtype=np.float64)
