"""How singular subspaces align across layers and modules (paper §3.2, Eq. 3, Figure 1).

Two measures for any two modules that share the dimension compared: the similarity of the leading
directions |u₁ᵢᵀu₁ⱼ|, and the overlap ‖U_{i,k}ᵀU_{j,k}‖²_F / k, the mean squared cosine of the k
principal angles. U lives in the output space, V in the input space.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, lgamma, pi, sqrt

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.errors import PolicyError
from surgery.spectrum import Spectra, Spectrum

MEASURES = ("principal", "overlap")
SIDES = ("output", "input")
DEFAULT_K = 4


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
    if measure not in MEASURES or side not in SIDES:
        raise PolicyError(f"measure {measure!r} on side {side!r} is not known", f"use {MEASURES} on {SIDES}")
    bases = [(s.U if side == "output" else s.V) for s in (*left, *right)]
    dimensions = {basis.shape[0] for basis in bases}
    if len(dimensions) != 1:
        raise PolicyError(
            f"the {side} spaces have different dimensions ({', '.join(map(str, sorted(dimensions)))})",
            "compare modules that share the space, such as the residual writers on the output side",
        )
    k = 1 if measure == "principal" else k
    if not 1 <= k <= min(basis.shape[1] for basis in bases):
        raise PolicyError(f"k = {k} is outside the ranks of these modules", "choose k from 1 to the rank")
    rows = np.concatenate([basis[:, :k] for basis in bases[: len(left)]], axis=1)
    columns = np.concatenate([basis[:, :k] for basis in bases[len(left) :]], axis=1)
    cosines = (rows.T @ columns).reshape(len(left), k, len(right), k)
    squares = np.einsum("ikjl,ikjl->ij", cosines, cosines)
    values = np.sqrt(squares) if measure == "principal" else squares / k
    d = dimensions.pop()
    reference = random_cosine(d) if measure == "principal" else random_overlap(k, d)
    names = tuple(s.name for s in left), tuple(s.name for s in right)
    return Alignment(*names, np.clip(values, 0.0, 1.0), reference, d)


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
