"""Singular value decomposition of an update through its factors (paper §3.1, Eq. 1–2).

ΔW = s·B·A is never formed: B = Q_B·R_B and Aᵀ = Q_A·R_A, then the thin SVD of the small matrix
s·R_B·R_Aᵀ gives σ, and U = Q_B·U', V = Q_A·V'. All in float64. Householder reflectors in blocks
(LAPACK's geqrt): matrix products for a tall factor, and as accurate as the unblocked kind, which a
Gram matrix would not be.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float64, Int64, Shaped
from numpy import ndarray
from scipy.linalg import lapack
from scipy.special import entr
from threadpoolctl import threadpool_limits

from surgery.adapter import Adapter, Factors

_REFLECTORS = 32
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
        labels = self.clusters
        return ((labels[:, None] == labels).sum(axis=1) > 1) & ~self.null

    @property
    def gap_tolerance(self) -> float:
        """The gap between neighbouring σ, relative to σ₁, up to which directions are rounding noise.

        Rounding the stored factors turns two directions into each other by about ε·σ₁/(√d·gap): the
        errors of d entries have independent signs, so what mixes the two is √d smaller than ε·σ₁.
        With d the smaller side of ΔW and a factor of 4, directions at this gap turn by about five
        degrees, and equal σ are found again after rounding. For float64 factors the rounding of the
        SVD itself sets the limit.
        """
        side = min(self.U.shape[0], self.V.shape[0])
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


def decompose(adapter: Adapter) -> dict[str, Spectrum]:
    """The spectrum of every module, in the adapter's order."""
    # factors are tall and thin: several threads on one of them wait for each other more than they compute
    with threadpool_limits(1, user_api="blas"):
        return {name: decompose_factors(factors) for name, factors in adapter.modules.items()}


def decompose_factors(factors: Factors) -> Spectrum:
    """Thin SVD of scaling·B·A, or scaling·B·diag(E)·A; min(out, in, rank) components."""
    U, sigma, V = svd_of_product(factors.B, factors.right, factors.scaling)
    precision = max(_epsilon(factors.B.dtype), _epsilon(factors.A.dtype))
    return Spectrum(factors.name, factors.layer, factors.family, U, sigma, V, precision)


def svd_of_product(
    B: Shaped[ndarray, "out rank"], A: Shaped[ndarray, "rank in"], scaling: float
) -> tuple[Float64[ndarray, "out k"], Float64[ndarray, " k"], Float64[ndarray, "in k"]]:
    """U, σ, V of scaling·B·A through QR of both factors. The same bits whatever else is decomposed."""
    # column-major for LAPACK, which A as stored already is once transposed
    Q_B, R_B = _qr(B.astype(np.float64, order="F"))
    Q_A, R_A = _qr(A.astype(np.float64, order="C").T)
    left, sigma, right_t = _robust_svd(scaling * (R_B @ R_A.T))
    U, V = Q_B.times(left), Q_A.times(right_t.T)
    signs = np.sign(U[np.abs(U).argmax(axis=0), np.arange(U.shape[1])])
    U *= signs
    V *= signs
    return U, sigma, V


@dataclass(frozen=True)
class _Q:
    """An orthonormal factor as blocks of reflectors: products with it need no Q."""

    reflectors: Float64[ndarray, "row k"]
    blocks: Float64[ndarray, "block k"]

    def times(self, small: Float64[ndarray, "k column"]) -> Float64[ndarray, "row column"]:
        rows, k = self.reflectors.shape
        padded = np.zeros((rows, small.shape[1]), order="F")
        padded[:k] = small
        product, _ = lapack.dgemqrt(self.reflectors, self.blocks, padded, overwrite_c=True)
        return product


def _qr(factor: Float64[ndarray, "row rank"]) -> tuple[_Q, Float64[ndarray, "k rank"]]:
    """Thin QR of a column-major matrix, which is overwritten; k = min(row, rank)."""
    k = min(factor.shape)
    packed, blocks, _ = lapack.dgeqrt(min(_REFLECTORS, k), factor, overwrite_a=True)
    return _Q(packed[:, :k], blocks), np.triu(packed[:k])


def _robust_svd(core: Float64[ndarray, "m n"]) -> tuple[ndarray, ndarray, ndarray]:
    try:
        return np.linalg.svd(core, full_matrices=False)
    except np.linalg.LinAlgError:
        # divide and conquer can fail on a finite, rank-deficient matrix; plain QR iteration does not
        left, sigma, right_t = scipy.linalg.svd(core, full_matrices=False, lapack_driver="gesvd")
        return left, sigma, right_t


def _epsilon(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).eps)


def effective_rank(sigma: Float64[ndarray, " rank"]) -> float:
    """exp of the entropy of σ/Σσ: 1 for a single component, r for a flat spectrum; 0 for a zero update."""
    if not sigma.any():
        return 0.0
    relative = sigma / sigma.max()  # sums and squares of the σ themselves may overflow
    return float(np.exp(entr(relative / relative.sum()).sum()))


def stable_rank(sigma: Float64[ndarray, " rank"]) -> float:
    """‖ΔW‖²_F / ‖ΔW‖²₂; 0 for a zero update."""
    return float(((sigma / sigma.max()) ** 2).sum()) if sigma.any() else 0.0


def components_for_energy(sigma: Float64[ndarray, " rank"], share: float = 0.9) -> int:
    """The smallest k whose leading components hold `share` of Σσ²; 0 for a zero update."""
    if not sigma.any():
        return 0
    energy = np.cumsum((sigma / sigma.max()) ** 2)
    return int(np.searchsorted(energy, share * energy[-1]) + 1)
