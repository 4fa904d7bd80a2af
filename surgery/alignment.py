"""How singular subspaces align across layers and modules (paper §3.2, Eq. 3, Figure 1).

Two measures for any two modules that share the dimension compared: the similarity of the leading
directions |u₁ᵢᵀu₁ⱼ|, and the overlap ‖U_{i,k}ᵀU_{j,k}‖²_F / k, the mean squared cosine of the k
principal angles. U lives in the output space, V in the input space.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma, pi, sqrt

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray

from surgery.errors import PolicyError
from surgery.spectrum import Spectra, Spectrum

MEASURES = ("principal", "overlap")
SIDES = ("output", "input")
DEFAULT_K = 4
# directions in one product of the full grid, which bounds its memory
_BAND = 2048
# entries that one float32 sum runs over
_STRETCH = 4096


@dataclass(frozen=True)
class Alignment:
    """Alignment of modules `rows` against modules `columns`, values in [0, 1].

    `reference` is what two random subspaces of this shape give in expectation.
    """

    rows: tuple[str, ...]
    columns: tuple[str, ...]
    values: Float64[ndarray, "row column"]
    reference: float
    dimension: int


def layer_invariance(
    spectra: Spectra, family: str, *, measure: str = "overlap", k: int = DEFAULT_K, side: str = "output"
) -> Alignment:
    """One family against itself across layers (paper Figure 1a, 1b)."""
    members = family_members(spectra, family)
    return align(members, members, measure=measure, k=k, side=side)


def module_synergy(
    spectra: Spectra,
    first: str,
    second: str,
    *,
    measure: str = "overlap",
    k: int = DEFAULT_K,
    side: str = "output",
) -> Alignment:
    """Family `first` (rows) against family `second` (columns) on the layers both have.

    The diagonal is the synergy inside each layer (paper Figure 1c).
    """
    left = {module.layer: module for module in family_members(spectra, first)}
    right = {module.layer: module for module in family_members(spectra, second)}
    layers = [layer for layer in left if layer in right]
    if not layers:
        raise PolicyError(f"{first} and {second} share no layer", "choose two families of one layer stack")
    return align([left[i] for i in layers], [right[i] for i in layers], measure=measure, k=k, side=side)


def align(
    left: Sequence[Spectrum],
    right: Sequence[Spectrum],
    *,
    measure: str = "overlap",
    k: int = DEFAULT_K,
    side: str = "output",
) -> Alignment:
    """Every module of `left` against every module of `right`.

    One matrix product for all pairs: the leading columns of all modules side by side. Raises
    `PolicyError` for an unknown measure or side, for modules whose dimensions differ, and for k
    outside 1 … smallest rank.
    """
    bases, k = _leading([*left, *right], measure, k, side)
    dimensions = {basis.shape[0] for basis in bases}
    if len(dimensions) != 1:
        raise PolicyError(
            f"the {side} spaces have different dimensions ({', '.join(map(str, sorted(dimensions)))})",
            "compare modules that share the space, such as the residual writers on the output side",
        )
    rows = np.concatenate(bases[: len(left)], axis=1)
    columns = np.concatenate(bases[len(left) :], axis=1)
    cosines = (rows.T @ columns).reshape(len(left), k, len(right), k)
    squares = np.einsum("ikjl,ikjl->ij", cosines, cosines)
    d = dimensions.pop()
    names = tuple(s.name for s in left), tuple(s.name for s in right)
    return Alignment(*names, _measured(squares, measure, k), _reference(measure, k, d), d)


@dataclass(frozen=True)
class Grid:
    """Every module of an adapter against every module.

    `values` is symmetric, in [0, 1], and NaN where two modules do not share the dimension compared.
    `reference` belongs to a module: what random subspaces of its dimension give in expectation.
    """

    names: tuple[str, ...]
    values: Float64[ndarray, "module module"]
    dimension: Int64[ndarray, "module"]
    reference: Float64[ndarray, "module"]

    @property
    def ratio(self) -> Float64[ndarray, "module module"]:
        """How many times the random reference; a pair that has a value has one reference."""
        return self.values / self.reference[:, None]


def full_grid(spectra: Spectra, *, measure: str = "overlap", k: int = DEFAULT_K, side: str = "output") -> Grid:
    """Every module against every module, in the order of `spectra`.

    Unlike `align`, modules of different dimensions may stand side by side, and the products are in
    float32: values are within 1e-6 of `align`, in half its time. Raises `PolicyError` for an
    unknown measure or side and for k outside 1 … smallest rank.
    """
    modules = list(spectra.values())
    bases, k = _leading(modules, measure, k, side)
    dimension = np.array([basis.shape[0] for basis in bases], dtype=np.int64)
    values = np.full((len(modules), len(modules)), np.nan)
    for d in np.unique(dimension):
        members = np.flatnonzero(dimension == d)
        squares = _pair_squares([bases[i] for i in members])
        values[np.ix_(members, members)] = _measured(squares, measure, k)
    reference = np.array([_reference(measure, k, int(d)) for d in dimension])
    return Grid(tuple(module.name for module in modules), values, dimension, reference)


def _pair_squares(bases: Sequence[Float64[ndarray, "d k"]]) -> Float64[ndarray, "module module"]:
    """‖U_iᵀU_j‖²_F of all pairs: one matrix product per pair of bands, the upper triangle only."""
    n, (d, k) = len(bases), bases[0].shape
    stack = np.empty((n, k, d), dtype=np.float32)
    for i, basis in enumerate(bases):
        stack[i] = basis.T
    squares = np.zeros((n, n))
    step = max(1, _BAND // k)
    for i in range(0, n, step):
        for j in range(i, n, step):
            rows, columns = stack[i : i + step], stack[j : j + step]
            cosines = _product(rows.reshape(-1, d), columns.reshape(-1, d))
            cosines = cosines.reshape(len(rows), k, len(columns), k)
            squares[i : i + step, j : j + step] = np.einsum("ikjl,ikjl->ij", cosines, cosines)
    return np.triu(squares) + np.triu(squares, 1).T


def _product(rows: Float32[ndarray, "m d"], columns: Float32[ndarray, "n d"]) -> Float64[ndarray, "m n"]:
    """rows·columnsᵀ, summed in float64 over stretches of d: one float32 sum would drift with d."""
    total = np.zeros((len(rows), len(columns)))
    for first in range(0, rows.shape[1], _STRETCH):
        stretch = slice(first, first + _STRETCH)
        # for rows against themselves numpy sees a product with its own transpose and computes half
        total += rows[:, stretch] @ columns[:, stretch].T
    return total


def _leading(
    modules: Sequence[Spectrum], measure: str, k: int, side: str
) -> tuple[list[Float64[ndarray, "d k"]], int]:
    """The leading k directions of every module, one for the principal similarity, and that k."""
    if measure not in MEASURES or side not in SIDES:
        raise PolicyError(f"measure {measure!r} on side {side!r} is not known", f"use {MEASURES} on {SIDES}")
    k = 1 if measure == "principal" else k
    if not 1 <= k <= min((module.rank for module in modules), default=0):
        raise PolicyError(f"k = {k} is outside the ranks of these modules", "choose k from 1 to the rank")
    return [(module.U if side == "output" else module.V)[:, :k] for module in modules], k


def _measured(squares: Float64[ndarray, "row column"], measure: str, k: int) -> Float64[ndarray, "row column"]:
    values = np.sqrt(squares) if measure == "principal" else squares / k
    return np.clip(values, 0.0, 1.0)


def _reference(measure: str, k: int, dimension: int) -> float:
    return random_cosine(dimension) if measure == "principal" else random_overlap(k, dimension)


def random_overlap(k: int, dimension: int) -> float:
    """Expected overlap of two random k-dimensional subspaces: k/d (paper §3.2)."""
    return min(1.0, k / dimension)


def random_cosine(dimension: int) -> float:
    """Expected |cosine| of two random directions, Γ(d/2) / (√π·Γ((d+1)/2)), near √(2/(πd))."""
    return exp(lgamma(dimension / 2) - lgamma((dimension + 1) / 2)) / sqrt(pi)


def family_members(spectra: Spectra, family: str) -> list[Spectrum]:
    """The modules of one family in layer order; raises `PolicyError` when there are none."""
    members = [module for module in spectra.values() if module.family == family]
    if not members:
        known = dict.fromkeys(module.family for module in spectra.values())
        raise PolicyError(f"no modules of family {family!r}", f"use one of {', '.join(known)}")
    return members
