"""How singular subspaces align across layers and modules (paper §3.2, Eq. 3, Figure 1).

Two measures for any two modules that share the dimension compared: the similarity of the leading
directions |u₁ᵢᵀu₁ⱼ|, and the overlap ‖U_{i,k}ᵀU_{j,k}‖²_F / k, the mean squared cosine of the k
principal angles. U lives in the output space, V in the input space.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64
from numpy import ndarray

from surgery.errors import PolicyError
from surgery.spectra.pairing import family_members, family_of_both, paired_families
from surgery.spectra.random_subspaces import MEASURES, expected_level
from surgery.spectra.spectrum import Spectra, Spectrum

SIDES = ("output", "input")
DEFAULT_K = 4
# cosines that one product of a table yields at most (for more than two thousand modules, one per pair)
_COSINES = 2**22
# entries that one float32 sum runs over
_STRETCH = 4096


@dataclass(frozen=True)
class Alignment:
    """Alignment of modules `rows` against modules `columns`, values in [0, 1] or NaN.

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
    """Alignment of one family with itself across layers (paper Figure 1a, 1b).

    spectra: of all modules, by name.
    family: such as `o_proj`.
    measure: `overlap` of the leading k directions, or `principal`, the |cosine| of the first ones.
    k: leading components compared.
    side: `output` (left singular vectors) or `input` (right ones).
    """
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
    """Alignment of two families on the layers both have; the diagonal is the synergy in a layer (paper Figure 1c).

    spectra: of all modules, by name.
    first: the family of the rows.
    second: the family of the columns.
    measure: `overlap` of the leading k directions, or `principal`, the |cosine| of the first ones.
    k: leading components compared.
    side: `output` (left singular vectors) or `input` (right ones).
    """
    rows, columns = paired_families(spectra, first, second, side=side)
    return align(rows, columns, measure=measure, k=k, side=side)


def align(
    left: Sequence[Spectrum],
    right: Sequence[Spectrum],
    *,
    measure: str = "overlap",
    k: int = DEFAULT_K,
    side: str = "output",
) -> Alignment:
    """Alignment of every module of `left` with every module of `right`.

    left: spectra of the rows.
    right: spectra of the columns.
    measure: `overlap` of the leading k directions, or `principal`, the |cosine| of the first ones.
    k: leading components compared.
    side: `output` (left singular vectors) or `input` (right ones).

    One matrix product for all pairs: the leading columns of all modules side by side. NaN where the
    leading k components of a module include null ones: an all-zero module has no directions. Raises
    `PolicyError` for an unknown measure or side, for modules whose dimensions differ, and for k
    outside 1 … smallest rank.
    """
    modules = [*left, *right]
    k = _checked_k(measure, k, side, min((module.rank for module in modules), default=0))
    bases = [module.directions(side)[:, :k] for module in modules]
    dimensions = {basis.shape[0] for basis in bases}
    if len(dimensions) != 1:
        raise PolicyError(
            f"the {side} spaces have different dimensions ({', '.join(map(str, sorted(dimensions)))})",
            "compare modules that share the space, such as the residual writers on the output side",
        )
    rows = np.concatenate(bases[: len(left)], axis=1)
    columns = np.concatenate(bases[len(left) :], axis=1)
    cosines = (rows.T @ columns).reshape(len(left), k, len(right), k)
    values = _measured(np.einsum("ikjl,ikjl->ij", cosines, cosines), measure, k)
    known = np.array([_live(module) >= k for module in modules])
    values[~np.outer(known[: len(left)], known[len(left) :])] = np.nan
    d = dimensions.pop()
    names = tuple(s.name for s in left), tuple(s.name for s in right)
    return Alignment(*names, values, expected_level(d, k, measure), d)


def between_adapters(
    left: Spectra,
    right: Spectra,
    family: str,
    *,
    measure: str = "overlap",
    k: int = DEFAULT_K,
    side: str = "output",
) -> Alignment:
    """Alignment of one family between two adapters, every layer of one with every layer of the other.

    left: spectra of the adapter in the rows.
    right: spectra of the adapter in the columns; names may repeat across the two.
    family: such as `o_proj`.
    measure: `overlap` of the leading k directions, or `principal`, the |cosine| of the first ones.
    k: leading components compared.
    side: `output` (left singular vectors) or `input` (right ones).

    Raises `PolicyError` where the dimensions differ, which those of adapters of one base model never do.
    """
    rows, columns = family_of_both(left, right, family, side=side)
    return align(rows, columns, measure=measure, k=k, side=side)


@dataclass(frozen=True)
class OverlapTable:
    """Every module against every module at every k, from one pass over their directions.

    `squares` holds ‖U_{i,k}ᵀU_{j,k}‖²_F for k = 1 … the largest rank; symmetric in the modules, NaN
    where two of them do not share the dimension or where k goes beyond `leading` of either.
    `leading` counts the components that are not null. Names may repeat: modules of two adapters can
    stand in one table.
    """

    names: tuple[str, ...]
    side: str
    dimension: Int64[ndarray, " module"]
    leading: Int64[ndarray, " module"]
    squares: Float32[ndarray, "k module module"]

    @property
    def largest_k(self) -> int:
        return len(self.squares)

    def values(
        self,
        measure: str = "overlap",
        k: int = DEFAULT_K,
        rows: Sequence[int] | None = None,
        columns: Sequence[int] | None = None,
    ) -> Float64[ndarray, "row column"]:
        """The measure for modules `rows` against modules `columns`, by index; all where not given.

        In [0, 1], NaN where there is no value. The principal similarity has no k. Raises
        `PolicyError` for an unknown measure and for k outside 1 … largest rank.
        """
        k = _checked_k(measure, k, self.side, self.largest_k)
        every = range(len(self.names))
        chosen = np.ix_(every if rows is None else list(rows), every if columns is None else list(columns))
        return _measured(self.squares[k - 1][chosen].astype(np.float64), measure, k)

    def of(self, modules: Sequence[int]) -> "OverlapTable":
        """The table of some of its modules, by index and in that order."""
        chosen = list(modules)
        leading = self.leading[chosen]
        squares = self.squares[: max(1, int(leading.max(initial=0)))][:, chosen][:, :, chosen]
        names = tuple(self.names[i] for i in chosen)
        return OverlapTable(names, self.side, self.dimension[chosen], leading, squares)


def overlap_table(modules: Sequence[Spectrum], *, side: str = "output") -> OverlapTable:
    """The table of `modules`, in their order; ranks and dimensions may differ.

    Products are in float32, summed in float64 over stretches of the dimension: values are within
    1e-6 of `align`. Raises `PolicyError` for an unknown side and for no modules.
    """
    _checked_k("overlap", 1, side, max((module.rank for module in modules), default=0))
    dimension = np.array([module.directions(side).shape[0] for module in modules], dtype=np.int64)
    leading = np.array([_live(module) for module in modules], dtype=np.int64)
    largest = max(module.rank for module in modules)
    squares = np.full((largest, len(modules), len(modules)), np.nan, dtype=np.float32)
    for d in np.unique(dimension):
        members = np.flatnonzero(dimension == d)
        bases = [modules[int(i)].directions(side)[:, : leading[i]] for i in members]
        for k, group in enumerate(_squares_by_k(bases), start=1):
            long = leading[members] >= k
            squares[k - 1][np.ix_(members[long], members[long])] = group[np.ix_(long, long)]
    return OverlapTable(tuple(module.name for module in modules), side, dimension, leading, squares)


def _squares_by_k(bases: Sequence[Float64[ndarray, "d _"]]) -> Iterator[Float64[ndarray, "module module"]]:
    """‖U_{i,k}ᵀU_{j,k}‖²_F of all pairs for k = 1, 2, … up to the most directions one basis has.

    The squared cosines of two modules form a matrix, and each value is the sum of its top-left k × k
    block: the block before it and a border of one more row and column. The border's row for (i, j) is
    its column for (j, i), so one product serves both.
    """
    n, d, most = len(bases), bases[0].shape[0], max(basis.shape[1] for basis in bases)
    # directions a module lacks stay zero and add nothing
    stack = np.zeros((most, n, d), dtype=np.float32)
    for i, basis in enumerate(bases):
        stack[: basis.shape[1], i] = basis.T
    total = np.zeros((n, n))
    step = max(1, _COSINES // n**2)
    for k in range(most):
        border = np.zeros((n, n))
        for first in range(0, k, step):
            before = stack[first : min(first + step, k)]
            cosines = _product(stack[k], before.reshape(-1, d)).reshape(n, -1, n)
            border += np.einsum("ikj,ikj->ij", cosines, cosines)
        total += border + border.T + _product(stack[k], stack[k]) ** 2
        yield total


def _product(rows: Float32[ndarray, "m d"], columns: Float32[ndarray, "n d"]) -> Float64[ndarray, "m n"]:
    """rows·columnsᵀ, summed in float64 over stretches of d: one float32 sum would drift with d."""
    total = np.zeros((len(rows), len(columns)))
    for first in range(0, rows.shape[1], _STRETCH):
        stretch = slice(first, first + _STRETCH)
        # for rows against themselves numpy sees a product with its own transpose and computes half
        total += rows[:, stretch] @ columns[:, stretch].T
    return total


def _live(module: Spectrum) -> int:
    """How many components are not null; σ descends, so they come first."""
    return int((~module.null).sum())


def _checked_k(measure: str, k: int, side: str, largest: int) -> int:
    """The k that `measure` looks at; the principal similarity always looks at one direction."""
    if measure not in MEASURES or side not in SIDES:
        raise PolicyError(f"measure {measure!r} on side {side!r} is not known", f"use {MEASURES} on {SIDES}")
    k = 1 if measure == "principal" else k
    if not 1 <= k <= largest:
        raise PolicyError(f"k = {k} is outside the ranks of these modules", "choose k from 1 to the rank")
    return k


def _measured(squares: Float64[ndarray, "row column"], measure: str, k: int) -> Float64[ndarray, "row column"]:
    values = np.sqrt(squares) if measure == "principal" else squares / k
    return np.clip(values, 0.0, 1.0)
