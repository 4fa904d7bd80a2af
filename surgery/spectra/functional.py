"""Over how many directions an update acts on what really enters it (follow-up to the paper, TTtianTT/peft-sft-lab).

With q = E[(vₖᵀx)²] and M = E[(Vᵀx)(Vᵀx)ᵀ], the functional energy of a module is Σσ²q = E‖ΔWx‖². The ratios here are
blind to a common scale. They are not the effective rank (entropy of σ), nor the stable rank ‖σ‖²/σ₁².
"""

import numpy as np
from jaxtyping import Float64
from numpy import ndarray


def nuclear_participation(sigma: Float64[ndarray, " rank"]) -> float:
    """r₂ = (Σσ)²/Σσ²: 1 for a single component, r for a flat spectrum; 0 for a zero update."""
    return _participation(sigma)


def functional_shares(sigma: Float64[ndarray, " rank"], q: Float64[ndarray, " rank"]) -> Float64[ndarray, " rank"]:
    """σₖ²qₖ/Σσ²q, what each component does of the update to what enters; zeros where nothing is done."""
    weights = _weights(sigma, q)
    total = weights.sum()
    return weights / total if total > 0 else weights


def functional_participation(sigma: Float64[ndarray, " rank"], q: Float64[ndarray, " rank"]) -> float:
    """FPR = (Σσ²q)²/Σ(σ²q)², the raw functional participation ratio; 0 where nothing is done."""
    return _participation(_weights(sigma, q))


def full_participation(sigma: Float64[ndarray, " rank"], M: Float64[ndarray, "rank rank"]) -> float:
    """tr(G)²/‖G‖²_F of G = diag(σ)·M·diag(σ), which counts correlated components as one; 0 where nothing is done.

    Between 1 and the rank, and never above what `functional_participation` gives for the diagonal of M.
    """
    top = sigma.max(initial=0.0)
    scaled = sigma / top if top > 0 else sigma
    G = scaled[:, np.newaxis] * (M / _positive(np.abs(M).max(initial=0.0))) * scaled
    square = float((G**2).sum())
    return float(np.trace(G)) ** 2 / square if square > 0 else 0.0


def _weights(sigma: Float64[ndarray, " rank"], q: Float64[ndarray, " rank"]) -> Float64[ndarray, " rank"]:
    """σ²q in units of its largest, because squares of the numbers themselves may overflow."""
    root = sigma * np.sqrt(q / _positive(q.max(initial=0.0)))
    weights: Float64[ndarray, " rank"] = (root / _positive(root.max(initial=0.0))) ** 2
    return weights


def _participation(weights: Float64[ndarray, " rank"]) -> float:
    scaled = weights / _positive(weights.max(initial=0.0))
    square = float((scaled**2).sum())
    return float(scaled.sum()) ** 2 / square if square > 0 else 0.0


def _positive(value: float) -> float:
    return value if value > 0 else 1.0
