"""A matrix of members as one number a pair: the mean over modules of a scope, beside what random updates give."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.special import ndtri

from surgery.adapter_sets.matrix import Matrix
from surgery.errors import PolicyError
from surgery.spectra import SIDES, expected_level, mean_chance_level

COSINE = "cosine"
MATRIX_MEASURES = ("overlap", "principal", COSINE)
LEVEL = 0.01  # the share of random pairs that lie beyond the chance level


@dataclass(frozen=True)
class PairValues:
    """One number for every pair of members, NaN where there is none.

    `expected` is what random updates of these shapes and ranks give on average; a value whose size is not above
    `chance` is not distinguishable from them: one random pair in a hundred lies beyond. `modules` tells over how many
    modules of both the value is.
    """

    values: Float64[ndarray, "member member"]
    expected: Float64[ndarray, "member member"]
    chance: Float64[ndarray, "member member"]
    modules: Float64[ndarray, "member member"]

    @property
    def beyond(self) -> ndarray:
        """Which pairs are distinguishable from random ones."""
        return np.abs(np.nan_to_num(self.values)) > self.chance


def matrix_values(
    matrix: Matrix, measure: str, k: int, side: str, *, family: str | None = None, layer: int | None = None
) -> PairValues:
    """Every pair of members by one measure, over all modules or those of a family and a layer.

    matrix: of the members.
    measure: `overlap` or `principal`, the mean over the modules that both members have, or `cosine`, of the updates
        as one long vector each: ⟨ΔWᵢ, ΔWⱼ⟩ / (‖ΔWᵢ‖·‖ΔWⱼ‖), zero where a member does not have a module.
    k: of the overlap, one of the matrix's.
    side: `output` or `input`, of overlap and principal.
    family: alone; all where not given.
    layer: alone, −1 for modules outside the layer stack; all where not given.

    Raises `PolicyError` for what the matrix does not have.
    """
    if measure not in MATRIX_MEASURES or side not in SIDES:
        raise PolicyError(
            f"measure {measure!r} on side {side!r} is not known", f"use {MATRIX_MEASURES} on {SIDES}"
        )
    if measure == "overlap" and k not in matrix.ks:
        raise PolicyError(f"k = {k} is not among the matrix's", f"choose one of {', '.join(map(str, matrix.ks))}")
    chosen = [
        at
        for at, place in enumerate(matrix.places)
        if family in (None, place.family) and layer in (None, place.layer)
    ]
    if not chosen:
        raise PolicyError(f"no modules of family {family!r} in layer {layer!r}", "choose another scope")
    if measure == COSINE:
        return _cosines(matrix, chosen)
    return _means(matrix, chosen, measure, matrix.ks.index(k) if measure == "overlap" else 0, side)


def _means(matrix: Matrix, chosen: list[int], measure: str, index: int, side: str) -> PairValues:
    """Means over modules; pairs over the same modules share one chance level."""
    k = matrix.ks[index]
    sums = matrix.overlaps[SIDES.index(side), chosen, index]
    if measure == "principal":
        sums = matrix.principals[SIDES.index(side), chosen]
    counts = matrix.counts[chosen, index]
    total = counts.sum(axis=0)
    dimensions = np.array([matrix.places[at].dimension(side) for at in chosen])
    spaces = np.unique(dimensions)
    per_space = np.stack([counts[dimensions == d].sum(axis=0) for d in spaces], axis=-1)

    def of_each(of: Callable[[tuple[tuple[int, int], ...]], float]) -> Float64[ndarray, "member member"]:
        kinds, which = np.unique(per_space.reshape(-1, len(spaces)), axis=0, return_inverse=True)
        told = [
            of(tuple((int(d), int(count)) for d, count in zip(spaces, kind, strict=True) if count))
            if kind.any()
            else np.nan
            for kind in kinds
        ]
        return np.array(told, dtype=np.float64)[which.reshape(-1)].reshape(total.shape)

    def mean(kind: tuple[tuple[int, int], ...]) -> float:
        return sum(count * expected_level(d, k, measure) for d, count in kind) / sum(count for _, count in kind)

    values = np.divide(
        sums.sum(axis=0, dtype=np.float64), total, out=np.full(total.shape, np.nan), where=total > 0
    )
    chance = of_each(lambda kind: mean_chance_level(kind, k, measure, level=LEVEL))
    return PairValues(np.clip(values, 0.0, 1.0), of_each(mean), chance, total.astype(np.float64))


def _cosines(matrix: Matrix, chosen: list[int]) -> PairValues:
    """Cosines of the updates. Turned at random, theirs has mean 0, a known variance and heavier tails than a normal
    one: its quantile is Cornish and Fisher's, with the fourth cumulant.
    """
    lengths = np.sqrt(matrix.squares[chosen].sum(axis=0))
    scale = np.outer(lengths, lengths)
    known = scale > 0

    def share(of: ndarray, over: ndarray) -> Float64[ndarray, "member member"]:
        return np.divide(of, over, out=np.full(scale.shape, np.nan), where=known & (over > 0))

    spread = matrix.spread[chosen].sum(axis=0)
    excess = np.nan_to_num(6 * share(matrix.tails[chosen].sum(axis=0), spread**2))
    z = float(ndtri(1 - LEVEL / 2))
    deviations = z + excess * (z**3 - 3 * z) / 24
    values = np.clip(share(matrix.inner[chosen].sum(axis=0), scale), -1.0, 1.0)
    shared = matrix.counts[chosen, 0].sum(axis=0)
    values[shared == 0] = np.nan
    chance = deviations * np.sqrt(share(spread, scale**2))
    return PairValues(values, np.zeros_like(values), np.nan_to_num(chance), shared.astype(np.float64))
