"""Null distribution of the alignment measures: what random subspaces give."""

from functools import lru_cache
from math import exp, lgamma, pi, sqrt

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.special import betaincinv

from surgery.errors import PolicyError

MEASURES = ("principal", "overlap")
_ONE_BY_ONE = 64


def expected_level(dimension: int, k: int, measure: str) -> float:
    """The expectation of `measure` for random subspaces; the principal similarity has no k."""
    return random_cosine(dimension) if measure == "principal" else random_overlap(k, dimension)


def random_overlap(k: int, dimension: int) -> float:
    """Expected overlap of two random k-dimensional subspaces: k/d (paper §3.2)."""
    return min(1.0, k / dimension)


def random_cosine(dimension: int) -> float:
    """Expected |cosine| of two random directions, Γ(d/2) / (√π·Γ((d+1)/2)), near √(2/(πd))."""
    return exp(lgamma(dimension / 2) - lgamma((dimension + 1) / 2)) / sqrt(pi)


@lru_cache(maxsize=4096)
def chance_level(
    dimension: int, k: int, measure: str, *, level: float = 0.01, draws: int = 4000, seed: int = 0
) -> float:
    """The value that the alignment of two random subspaces exceeds with probability `level`.

    dimension: of the space.
    k: of both subspaces; a `principal` similarity has 1.
    measure: `overlap` or `principal`.
    level: one-sided, in (0, 1).
    draws: exact draws of the null distribution; for a single direction it is known, cos² is Beta(1/2, (d−1)/2).
    seed: of the draws.

    A value at or below it is not distinguishable from random at that level. It holds for
    one pair named beforehand; of many random pairs, a share `level` lies above it.

    Raises `PolicyError` for an unknown measure, k outside 1 … dimension, a level outside (0, 1) and
    fewer draws than one in the tail.
    """
    k = 1 if measure == "principal" else k
    _check(dimension, k, measure, level, draws)
    if k == dimension:
        return 1.0
    if k == 1:
        square = float(betaincinv(0.5, (dimension - 1) / 2, 1 - level))
        return sqrt(square) if measure == "principal" else square
    overlaps = random_overlaps(dimension, k, draws, np.random.default_rng(seed))
    return float(np.quantile(overlaps, 1 - level))


@lru_cache(maxsize=4096)
def mean_chance_level(
    spaces: tuple[tuple[int, int], ...],
    k: int,
    measure: str,
    *,
    level: float = 0.01,
    draws: int = 4000,
    seed: int = 0,
) -> float:
    """The value that the mean alignment of several random pairs of subspaces exceeds with probability `level`.

    spaces: (dimension, how many pairs lie in such a space).
    k: of all subspaces; a `principal` similarity has 1.
    measure: `overlap` or `principal`.
    level: one-sided, in (0, 1).
    draws: of the mean; of more pairs in one space than 64 the sum is drawn as normal.
    seed: of the draws.

    Of one pair it is `chance_level`. Raises `PolicyError` as that does, and for no pairs.
    """
    k = 1 if measure == "principal" else k
    total = sum(count for _, count in spaces)
    if total < 1:
        raise PolicyError("no pair of subspaces", "name at least one")
    for dimension, _ in spaces:
        _check(dimension, k, measure, level, draws)
    if total == 1:
        dimension = next(dimension for dimension, count in spaces if count)
        return chance_level(dimension, k, measure, level=level, draws=draws, seed=seed)
    generator = np.random.default_rng(seed)
    sums = np.zeros(draws)
    for dimension, count in spaces:
        mean, deviation = expected_level(dimension, k, measure), sqrt(_variance(dimension, k, measure))
        if count > _ONE_BY_ONE:
            sums += generator.normal(count * mean, sqrt(count) * deviation, draws)
            continue
        one = random_overlaps(dimension, k, draws, generator)
        one = np.sqrt(one) if measure == "principal" else one
        # what the draws' own mean and spread are off by would be the same in every summand, and add up
        one = mean + (one - one.mean()) * (deviation / (one.std() or 1.0))
        sums += one[generator.integers(draws, size=(count, draws))].sum(axis=0)
    return float(np.quantile(sums, 1 - level)) / total


def _variance(dimension: int, k: int, measure: str) -> float:
    """Of a measure of random subspaces: cos² of one direction is Beta(1/2, (d−1)/2), k directions share a projection."""
    if measure == "principal":
        return max(0.0, 1 / dimension - random_cosine(dimension) ** 2)
    d = dimension
    return 2 * (d - k) ** 2 / (d**2 * (d - 1) * (d + 2)) if d > 1 else 0.0


def random_overlaps(
    dimension: int, k: int, draws: int, generator: np.random.Generator
) -> Float64[ndarray, " draw"]:
    """Independent draws of ‖UᵀV‖²_F / k for random k-dimensional subspaces of ℝᵈ, exact at every size.

    dimension: d.
    k: of both subspaces.
    draws: how many.
    generator: of the random numbers.

    With U fixed to the first k axes, UᵀV is the top k × k block of a Haar-random orthogonal matrix.
    Householder reflections from both sides make it bidiagonal with independent entries: cosines and
    sines whose squares are Beta variables (Edelman and Sutton 2008, the β-Jacobi model with β = 1,
    a = 0, b = d − 2k). So 2k − 1 numbers stand for a draw whatever d is. Beyond k = d/2 two subspaces
    must meet: ‖UᵀV‖² = 2k − d + ‖U⊥ᵀV⊥‖², and the complements are random too.
    """
    meeting, m = max(0, 2 * k - dimension), min(k, dimension - k)
    if m == 0:
        return np.ones(draws)
    i = np.arange(m, 0, -1)
    c = generator.beta(i / 2, (dimension - 2 * m + i) / 2, size=(draws, m))
    i = i[1:]
    c_inner = generator.beta(i / 2, (dimension - 2 * m + 1 + i) / 2, size=(draws, m - 1))
    diagonal = c.sum(axis=1) - (c[:, 1:] * c_inner).sum(axis=1)
    above = ((1 - c[:, :-1]) * c_inner).sum(axis=1)
    return (meeting + diagonal + above) / k


@lru_cache(maxsize=256)
def random_angles(dimension: int, k: int, *, draws: int = 101, seed: int = 0) -> tuple[float, ...]:
    """Median principal angles of two random k-dimensional subspaces of ℝᵈ, in degrees, ascending.

    dimension: d.
    k: of both subspaces.
    draws: pairs of subspaces that the median is of.
    seed: of the draws.

    With G of d × k normal entries, G·(GᵀG)^(−½) spans a random subspace; its cosines with the first k
    axes need the top k rows of G and, of the others, only their Gram matrix, a Wishart matrix drawn
    through its Cholesky factor (Bartlett 1934). Raises `PolicyError` for k outside 1 … dimension.
    """
    _check(dimension, k, "overlap", 0.5, draws)
    generator = np.random.default_rng(seed)
    cosines = np.empty((draws, k))
    below = dimension - k
    for draw in range(draws):
        top = generator.normal(size=(k, k))
        if below >= k:
            factor = np.tril(generator.normal(size=(k, k)), -1)
            np.fill_diagonal(factor, np.sqrt(generator.chisquare(below - np.arange(k))))
        else:
            factor = generator.normal(size=(k, below))
        root = np.linalg.cholesky(top.T @ top + factor @ factor.T)
        cosines[draw] = np.linalg.svd(np.linalg.solve(root, top.T), compute_uv=False)
    angles = np.degrees(np.arccos(np.clip(np.median(cosines, axis=0), 0.0, 1.0)))
    return tuple(float(angle) for angle in angles)


def _check(dimension: int, k: int, measure: str, level: float, draws: int) -> None:
    if measure not in MEASURES:
        raise PolicyError(f"measure {measure!r} is not known", f"use one of {', '.join(MEASURES)}")
    if not 1 <= k <= dimension:
        raise PolicyError(f"no subspace of {k} dimensions fits in {dimension}", "choose k from 1 to the dimension")
    if not 0 < level < 1 or draws * level < 1:
        raise PolicyError(
            f"level {level!r} cannot be found from {draws} draws", "use a level between 0 and 1 and more draws"
        )
