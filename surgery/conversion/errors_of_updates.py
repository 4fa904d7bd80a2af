"""How far one ΔW is from another, in float64, without forming products of factors."""

from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Shaped
from numpy import ndarray

from surgery.conversion.plan import UpdateError


def product_norm(B: Shaped[ndarray, "out rank"], A: Shaped[ndarray, "rank in"]) -> float:
    """‖B·A‖ in Frobenius norm, by the triangular factors of B and of Aᵀ."""
    left = _triangle(B.astype(np.float64))
    right = _triangle(A.astype(np.float64).T)
    return float(np.linalg.norm(left @ right.T))


def _triangle(matrix: Float64[ndarray, "rows k"]) -> Float64[ndarray, "k_or_fewer k"]:
    found: Any = np.linalg.qr(matrix, mode="r")
    return found


def error_of_product(
    source: tuple[float, Shaped[ndarray, "out k"], Shaped[ndarray, "k in"]],
    result: tuple[float, Shaped[ndarray, "out r"], Shaped[ndarray, "r in"]],
) -> UpdateError:
    """The error of one scaled product s·B·A against another."""
    (s, B, A), (t, D, C) = source, result
    B, A, D, C = (factor.astype(np.float64) for factor in (B, A, D, C))
    norm = abs(s) * product_norm(B, A)
    if D.shape == B.shape and (D == B).all() and (C == A).all():
        return UpdateError(norm, abs(t - s) * product_norm(B, A), C.shape[0])
    both = product_norm(np.hstack([s * B, -t * D]), np.vstack([A, C]))
    return UpdateError(norm, both, C.shape[0])


def error_of_dense(
    source: Float[ndarray, "out in"], result: tuple[float, Shaped[ndarray, "out r"], Shaped[ndarray, "r in"]]
) -> UpdateError:
    """The error of a scaled product s·B·A against a whole matrix."""
    s, B, A = result
    exact = source.astype(np.float64)
    made = s * (B.astype(np.float64) @ A.astype(np.float64))
    return UpdateError(float(np.linalg.norm(exact)), float(np.linalg.norm(made - exact)), A.shape[0])
