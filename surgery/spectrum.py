"""Singular value decomposition of an update through its factors (paper §3.1, Eq. 1–2).

ΔW = s·B·A is never formed: B = Q_B·R_B and Aᵀ = Q_A·R_A, then the thin SVD of the small matrix
s·R_B·R_Aᵀ gives σ, and U = Q_B·U', V = Q_A·V'. All in float64.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float64, Shaped
from numpy import ndarray

from surgery.adapter import Adapter, Factors


@dataclass(frozen=True)
class Spectrum:
    """ΔW = U·diag(σ)·Vᵀ of one module, σ descending. V is stored, never Vᵀ.

    Each uₖ has its entry of largest magnitude positive, so that signs are reproducible.
    """

    name: str
    layer: int | None
    family: str
    U: Float64[ndarray, "out rank"]
    sigma: Float64[ndarray, "rank"]
    V: Float64[ndarray, "in rank"]

    @property
    def rank(self) -> int:
        return int(self.sigma.size)

    @property
    def null(self) -> Bool[ndarray, "rank"]:
        """Components at rounding level: their directions are arbitrary."""
        return null_components(self.sigma)


def null_components(sigma: Float64[ndarray, "rank"]) -> Bool[ndarray, "rank"]:
    """Which components lie below rank·eps·σ₁ or are exactly zero."""
    return sigma <= sigma.size * np.finfo(np.float64).eps * sigma.max()


Spectra = Mapping[str, Spectrum]


def decompose(adapter: Adapter) -> dict[str, Spectrum]:
    """The spectrum of every module, in the adapter's order."""
    return {name: decompose_factors(factors) for name, factors in adapter.modules.items()}


def decompose_factors(factors: Factors) -> Spectrum:
    """Thin SVD of scaling·B·A; min(out, in, rank) components."""
    U, sigma, V = svd_of_product(factors.B, factors.A, factors.scaling)
    return Spectrum(factors.name, factors.layer, factors.family, U, sigma, V)


def svd_of_product(
    B: Shaped[ndarray, "out rank"], A: Shaped[ndarray, "rank in"], scaling: float
) -> tuple[Float64[ndarray, "out k"], Float64[ndarray, "k"], Float64[ndarray, "in k"]]:
    """U, σ, V of scaling·B·A through QR of both factors."""
    Q_B, R_B = np.linalg.qr(B.astype(np.float64))
    Q_A, R_A = np.linalg.qr(A.astype(np.float64).T)
    left, sigma, right_t = _robust_svd(scaling * (R_B @ R_A.T))
    U, V = Q_B @ left, Q_A @ right_t.T
    signs = np.sign(U[np.abs(U).argmax(axis=0), np.arange(U.shape[1])])
    return U * signs, sigma, V * signs


def _robust_svd(core: Float64[ndarray, "m n"]) -> tuple[ndarray, ndarray, ndarray]:
    try:
        return np.linalg.svd(core, full_matrices=False)
    except np.linalg.LinAlgError:
        # divide and conquer can fail on a finite, rank-deficient matrix; plain QR iteration does not
        left, sigma, right_t = scipy.linalg.svd(core, full_matrices=False, lapack_driver="gesvd")
        return left, sigma, right_t


def effective_rank(sigma: Float64[ndarray, "rank"]) -> float:
    """exp of the entropy of σ/Σσ: 1 for a single component, r for a flat spectrum; 0 for a zero update."""
    total = sigma.sum()
    if total <= 0:
        return 0.0
    share = sigma[sigma > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def stable_rank(sigma: Float64[ndarray, "rank"]) -> float:
    """‖ΔW‖²_F / ‖ΔW‖²₂; 0 for a zero update."""
    return float((sigma**2).sum() / sigma[0] ** 2) if sigma[0] > 0 else 0.0


def components_for_energy(sigma: Float64[ndarray, "rank"], share: float = 0.9) -> int:
    """The smallest k whose leading components hold `share` of Σσ²; 0 for a zero update."""
    energy = np.cumsum(sigma**2)
    return int(np.searchsorted(energy, share * energy[-1]) + 1) if energy[-1] > 0 else 0
