"""Member against member: how the subspaces and the updates of the adapters of a set agree, module by module.

For every pair of members and every module that both have: the overlap ‖U_{i,k}ᵀU_{j,k}‖²_F / k of the leading k
directions and the similarity |u₁ᵢᵀu₁ⱼ| of the first ones, on both sides (paper §3.2), and the inner product
⟨ΔWᵢ, ΔWⱼ⟩ = Σ σₐσ_b (uₐᵀu_b)(vₐᵀv_b), through the factors: no ΔW is formed. Modules of one family, layer and shape
are summed, so that thousands of experts take no more room than one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64
from numpy import ndarray

from surgery.adapter_sets.adapter_set import AdapterSet, Outline
from surgery.errors import DataError
from surgery.progress import SILENT, Control
from surgery.spectra import Spectrum, one_thread

_COSINES = 2**20  # numbers of one product of directions
_ROOM = 0.5  # of the set's bytes, that a matrix may take


@dataclass(frozen=True, order=True)
class Place:
    """Where modules stand that are summed: a layer (−1 outside the layer stack), a family, and their out × in."""

    layer: int
    family: str
    out: int
    into: int

    def dimension(self, side: str) -> int:
        return self.out if side == "output" else self.into


@dataclass(frozen=True)
class Matrix:
    """Sums over the modules of each place, for every pair of members.

    `counts` tells over how many modules: those where both members have k directions that are not null. `overlaps`
    holds ‖UᵀU‖²_F / k, `principals` |u₁ᵀu₁|, for the sides `output` and `input`. σ are in units of each member's
    largest: `inner` holds ⟨ΔWᵢ, ΔWⱼ⟩ and `squares` ‖ΔWᵢ‖². For updates turned at random `inner` has the variance
    `spread` = Σ‖ΔWᵢ‖²‖ΔWⱼ‖² / (out·in) and the fourth cumulant 6·`tails`, of Σσᵢ⁴·Σσⱼ⁴ / (out·in)².
    """

    members: tuple[str, ...]
    digests: tuple[str, ...]
    places: tuple[Place, ...]
    ks: tuple[int, ...]
    counts: Int32[ndarray, "place k member member"]
    overlaps: Float32[ndarray, "side place k member member"]
    principals: Float32[ndarray, "side place member member"]
    inner: Float64[ndarray, "place member member"]
    squares: Float64[ndarray, "place member"]
    spread: Float64[ndarray, "place member member"]
    tails: Float64[ndarray, "place member member"]

    def of(self, chosen: Sequence[int]) -> "Matrix":
        """The matrix of some of its members, by index and in that order."""
        at = list(chosen)
        names, digests = (tuple(each[i] for i in at) for each in (self.members, self.digests))
        counts, overlaps, principals, inner, spread, tails = (
            each[..., at, :][..., at]
            for each in (self.counts, self.overlaps, self.principals, self.inner, self.spread, self.tails)
        )
        return replace(
            self,
            members=names,
            digests=digests,
            counts=counts,
            overlaps=overlaps,
            principals=principals,
            inner=inner,
            squares=self.squares[:, at],
            spread=spread,
            tails=tails,
        )

    @property
    def families(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(place.family for place in self.places))

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers in order; −1 stands for modules outside the layer stack."""
        return tuple(sorted({place.layer for place in self.places}, key=lambda layer: (layer < 0, layer)))


def compare_members(adapters: AdapterSet, members: Sequence[str], *, control: Control = SILENT) -> Matrix:
    """Every member against every member, in one pass over their modules.

    adapters: the set.
    members: names of at least two, of one base shape (a group of `AdapterSet.alike`).
    control: hears of modules of members, and may stop it.

    Raises `DataError` for fewer than two, for members that give a module different shapes, and where the set's bytes
    are too few; `AdapterError` where files have gone or changed; and `Cancelled`.
    """
    outlines = adapters.modules(members)
    _check(adapters, members, outlines)
    places = tuple(dict.fromkeys(place_of(outline) for outline in outlines.values()))
    largest = max(each.rank for name in members for each in adapters[name].modules.values())
    ks = tuple(sorted({2**power for power in range(largest.bit_length())} | {largest}))
    size = _size(len(places), len(ks), len(members))
    if size > _ROOM * adapters.held.room:
        raise DataError(
            f"the matrix of {len(members)} adapters takes {size >> 20:,} MiB", "compare fewer adapters at a time"
        )
    scales = np.array([max(adapters[name].row.top, np.finfo(float).tiny) for name in members])
    with adapters.held.aside(size), one_thread():
        made = _empty(adapters, members, places, ks)
        at = {place: index for index, place in enumerate(places)}
        control.begin("comparing modules")
        for module, spectra in adapters.by_module(members, list(outlines), control=control):
            _add(made, at[place_of(outlines[module])], spectra, scales)
    return made


def place_of(outline: Outline) -> Place:
    return Place(-1 if outline.layer is None else outline.layer, outline.family, *outline.shape)


def _check(adapters: AdapterSet, members: Sequence[str], outlines: dict[str, Outline]) -> None:
    if len(set(members)) < 2:
        raise DataError("fewer than two adapters can be compared", "choose two or more that are not refused")
    for name in members:
        for module, outline in adapters[name].modules.items():
            if outline.shape != outlines[module].shape:
                raise DataError(
                    f"{module} is {outline.shape} in {name!r} and {outlines[module].shape} in another one",
                    "compare adapters of one base shape",
                )


def _size(places: int, ks: int, members: int) -> int:
    return places * members**2 * (4 * ks + 2 * 4 * ks + 2 * 4 + 3 * 8)


def _empty(adapters: AdapterSet, members: Sequence[str], places: tuple[Place, ...], ks: tuple[int, ...]) -> Matrix:
    n, p = len(members), len(places)
    pairs = p, n, n
    return Matrix(
        tuple(members),
        tuple(adapters[name].digest for name in members),
        places,
        ks,
        np.zeros((p, len(ks), n, n), np.int32),
        np.zeros((2, p, len(ks), n, n), np.float32),
        np.zeros((2, *pairs), np.float32),
        np.zeros(pairs),
        np.zeros((p, n)),
        np.zeros(pairs),
        np.zeros(pairs),
    )


def _add(made: Matrix, at: int, spectra: Sequence[Spectrum | None], scales: Float64[ndarray, " member"]) -> None:
    """Add one module to the sums of its place."""
    present = np.array([i for i, each in enumerate(spectra) if each is not None])
    those = [each for each in spectra if each is not None]
    rank = max(each.rank for each in those)
    live = np.array([int((~each.null).sum()) for each in those])
    sigma = np.zeros((len(those), rank))
    for row, each in enumerate(those):
        sigma[row, : each.rank] = each.sigma / scales[present[row]]
    pairs = np.ix_(present, present)
    sums = _agreement([_stacked(those, live, rank, side) for side in ("output", "input")], sigma, made.ks)
    counts = np.array([np.minimum.outer(live, live) >= k for k in made.ks])
    for index, k in enumerate(made.ks):
        known = counts[index]
        made.counts[at, index][pairs] += known
        for side in (0, 1):
            made.overlaps[side, at, index][pairs] += np.where(known, sums.squares[side, index] / k, 0)
    for side in (0, 1):
        made.principals[side, at][pairs] += np.sqrt(sums.squares[side, 0])
    square, fourth, area = (sigma**2).sum(axis=1), (sigma**4).sum(axis=1), float(np.prod(those[0].shape))
    made.inner[at][pairs] += sums.inner
    made.squares[at][present] += square
    made.spread[at][pairs] += np.outer(square, square) / area
    made.tails[at][pairs] += np.outer(fourth, fourth) / area**2


@dataclass(frozen=True)
class _Sums:
    """Of one module: ‖U_{i,k}ᵀU_{j,k}‖²_F at every k on both sides, and ⟨ΔWᵢ, ΔWⱼ⟩."""

    squares: Float64[ndarray, "side k member member"]
    inner: Float64[ndarray, "member member"]


def _stacked(
    spectra: Sequence[Spectrum], live: Int64[ndarray, " member"], rank: int, side: str
) -> Float64[ndarray, "row d"]:
    """A direction in each row, `rank` rows a member; zeros for those that a member lacks or that are null."""
    stack = np.zeros((len(spectra), rank, spectra[0].directions(side).shape[0]))
    for i, spectrum in enumerate(spectra):
        stack[i, : live[i]] = spectrum.directions(side)[:, : live[i]].T
    return stack.reshape(-1, stack.shape[2])


def _agreement(
    stacks: Sequence[Float64[ndarray, "row _"]], sigma: Float64[ndarray, "member rank"], ks: Sequence[int]
) -> _Sums:
    """A block of members against itself and all behind it at a time; what lies below the diagonal is mirrored."""
    n, rank = sigma.shape
    found = _Sums(np.zeros((2, len(ks), n, n)), np.zeros((n, n)))
    step = max(1, _COSINES // (n * rank**2))
    for i in range(0, n, step):
        rows = slice(i * rank, (i + step) * rank)
        cosines = [(stack[rows] @ stack[i * rank :].T).reshape(-1, rank, n - i, rank) for stack in stacks]
        found.inner[i : i + step, i:] = np.einsum(
            "ia,iajb,iajb,jb->ij", sigma[i : i + step], *cosines, sigma[i:], optimize=True
        )
        for side, each in enumerate(cosines):
            upto = (each**2).cumsum(axis=1).cumsum(axis=3)
            for index, k in enumerate(ks):
                within = min(k, rank) - 1
                found.squares[side, index, i : i + step, i:] = upto[:, within, :, within]
    for square in (found.inner, *found.squares.reshape(-1, n, n)):
        below = np.tril_indices(n, -1)
        square[below] = square.T[below]
    return found
