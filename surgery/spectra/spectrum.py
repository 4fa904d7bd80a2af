"""The spectrum ΔW = U·diag(σ)·Vᵀ of one module, and the numbers read off σ (paper §3.1, Eq. 1–2)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray
from scipy.special import entr

from surgery.adapter import Factors

# of the gap below which components count as one, see Spectrum.gap_tolerance
_SAFETY = 4.0
_LEAST_GAP = 1e-13


@dataclass(frozen=True)
class Spectrum:
    """ΔW = U·diag(σ)·Vᵀ of one module, σ descending. V is stored, never Vᵀ.

    Each uₖ has its entry of largest magnitude positive, so that signs are reproducible; it lies
    contiguous in memory. `precision` is the machine epsilon of the dtype the factors are stored in.
    """

    name: str
    layer: int | None
    family: str
    U: Float64[ndarray, "out rank"]
    sigma: Float64[ndarray, " rank"]
    V: Float64[ndarray, "in rank"]
    precision: float = float(np.finfo(np.float32).eps)

    @property
    def rank(self) -> int:
        return int(self.sigma.size)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of ΔW."""
        return self.U.shape[0], self.V.shape[0]

    def is_of(self, factors: Factors) -> bool:
        """Whether it is known, without a look at the numbers, that this is the spectrum of these very factors."""
        return False

    def directions(self, side: str) -> Float64[ndarray, "d rank"]:
        """U for the side `output`, V for `input`: a singular direction in each column."""
        return self.U if side == "output" else self.V

    @property
    def null(self) -> Bool[ndarray, " rank"]:
        """Components at rounding level: their directions are arbitrary."""
        return null_components(self.sigma)

    @property
    def clusters(self) -> Int64[ndarray, " rank"]:
        """A label per component: components of one label cannot be told apart, −1 marks the null ones.

        Inside a cluster of (nearly) equal σ any rotation of the directions gives the same ΔW, so a
        single gₖ means nothing there; Σgₖ over the cluster does not change.
        """
        return sigma_clusters(self.sigma, self.gap_tolerance)

    @property
    def degenerate(self) -> Bool[ndarray, " rank"]:
        """Which components share their cluster with another one; null components do not count."""
        return degenerate_components(self.sigma, self.gap_tolerance)

    @property
    def gap_tolerance(self) -> float:
        """The gap between neighbouring σ, relative to σ₁, up to which directions are rounding noise.

        Rounding the stored factors turns two directions into each other by about ε·σ₁/(√d·gap): the
        errors of d entries have independent signs, so what mixes the two is √d smaller than ε·σ₁.
        With d the smaller side of ΔW and a factor of 4, directions at this gap turn by about five
        degrees, and equal σ are found again after rounding. For float64 factors the rounding of the
        SVD itself sets the limit.
        """
        side = min(self.shape)
        return max(_SAFETY * self.precision / math.sqrt(side), _LEAST_GAP)


def sigma_clusters(sigma: Float64[ndarray, " rank"], tolerance: float) -> Int64[ndarray, " rank"]:
    """Labels 0, 1, … of runs of descending σ with gaps of at most tolerance·σ₁; −1 for null ones.

    Runs chain: the ends of a long run may lie further apart than one gap.
    """
    starts = np.diff(sigma, prepend=np.inf) < -tolerance * sigma[0]
    labels: Int64[ndarray, " rank"] = np.cumsum(starts, dtype=np.int64) - 1
    return np.where(null_components(sigma), np.int64(-1), labels)


def null_components(sigma: Float64[ndarray, "*module rank"]) -> Bool[ndarray, "*module rank"]:
    """Which components of each row lie below rank·eps·σ₁ or are exactly zero: no direction of their own to lift."""
    return sigma <= sigma.shape[-1] * np.finfo(np.float64).eps * sigma.max(axis=-1, keepdims=True)


Spectra = Mapping[str, Spectrum]


def of_equal_rank(spectra: Spectra, names: Iterable[str]) -> list[list[str]]:
    """The names in groups whose modules can be stacked, in the order of their first members."""
    groups: dict[int, list[str]] = {}
    for name in names:
        groups.setdefault(spectra[name].rank, []).append(name)
    return list(groups.values())


def effective_rank(sigma: Float64[ndarray, "*module rank"]) -> Float64[ndarray, "*module"] | float:
    """exp of the entropy of σ/Σσ: 1 for a single component, r for a flat spectrum; 0 for a zero update."""
    relative = _relative(sigma)
    total = relative.sum(axis=-1, keepdims=True)
    entropy = entr(relative / np.where(total > 0, total, 1.0)).sum(axis=-1)
    return np.where(total[..., 0] > 0, np.exp(entropy), 0.0)[()]


def stable_rank(sigma: Float64[ndarray, "*module rank"]) -> Float64[ndarray, "*module"] | float:
    """‖ΔW‖²_F / ‖ΔW‖²₂; 0 for a zero update."""
    return (_relative(sigma) ** 2).sum(axis=-1)


def components_for_energy(
    sigma: Float64[ndarray, "*module rank"], share: float = 0.9
) -> Int64[ndarray, "*module"] | np.int64:
    """The smallest k whose leading components hold `share` of Σσ²; 0 for a zero update."""
    energy = np.cumsum(_relative(sigma) ** 2, axis=-1)
    enough = (energy < share * energy[..., -1:]).sum(axis=-1) + 1
    return np.where(energy[..., -1] > 0, enough, 0)[()]


def degenerate_components(
    sigma: Float64[ndarray, "*module rank"], tolerance: Float64[ndarray, "*module"] | float
) -> Bool[ndarray, "*module rank"]:
    """Which components of each row share their cluster with another one; null components do not count."""
    live = ~null_components(sigma)
    gap = np.asarray(tolerance)[..., None] * sigma[..., :1]
    joined = (np.diff(sigma, axis=-1) >= -gap) & live[..., 1:]  # to the one before it
    found = np.zeros(sigma.shape, dtype=np.bool_)
    found[..., 1:] |= joined
    found[..., :-1] |= joined
    return found & live


def _relative(sigma: Float64[ndarray, "*module rank"]) -> Float64[ndarray, "*module rank"]:
    """σ/σ₁, because sums and squares of the σ themselves may overflow; zeros for a zero update."""
    top = sigma.max(axis=-1, keepdims=True)
    return sigma / np.where(top > 0, top, 1.0)
