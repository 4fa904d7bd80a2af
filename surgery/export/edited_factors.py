"""Write-back of gains into the factors of a LoRA: B′ = B + U·diag(α − 1)·Uᵀ·B, or its mirror where B is frozen."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
from jaxtyping import Float64, Shaped
from numpy import ndarray

from surgery.adapter import Adapter, Factors
from surgery.edits import Edit
from surgery.errors import ExportError
from surgery.spectra import Spectra, Spectrum


def write_back(adapter: Adapter, spectra: Spectra, edit: Edit) -> dict[str, Shaped[ndarray, "..."]]:
    """New tensors by key, in the file's dtype, for the modules whose gains are not all 1.

    They are B's, or A's where the adapter's B is frozen. Experts that share a tensor share its copy. Raises
    `ExportError` where the file's dtype cannot hold one.
    """
    changed: dict[str, ndarray] = {}
    for name, module in edit.modules.items():
        if (module.gains == 1).all():
            continue
        factors, spectrum, step = adapter.modules[name], spectra[name], module.gains - 1
        key, view = edited_factor(factors)
        if key not in changed:
            changed[key] = adapter.tensors[key].copy()
        if factors.mirror:
            exact = factors.A.astype(np.float64)
            exact += (exact @ spectrum.V * step) @ spectrum.V.T
        else:
            exact = factors.B.astype(np.float64)
            exact += spectrum.U @ (step[:, None] * (spectrum.U.T @ exact))
        with np.errstate(over="ignore"):
            rounded = round_to(exact, changed[key].dtype)
        if not np.isfinite(rounded).all():
            raise _out_of_range(name, "A" if factors.mirror else "B", exact, rounded.dtype)
        view(changed[key])[...] = rounded
    return changed


def _out_of_range(name: str, side: str, exact: Float64[ndarray, "..."], dtype: np.dtype) -> ExportError:
    largest, most = np.abs(exact).max(), float(ml_dtypes.finfo(dtype).max)
    return ExportError(
        f"the new {side} of module {name!r} reaches {largest:.3g} and {dtype.name} ends at {most:.5g}",
        "lower the gains of this module; or load the original with PeftModel.from_pretrained, which holds it in "
        "float32, save it with save_pretrained, and edit that",
    )


def edited_factor(factors: Factors) -> tuple[str, Callable[[ndarray], ndarray]]:
    """The key of the tensor that an edit of this module changes, and the module's view into it."""
    if factors.mirror:
        return factors.key_A, factors.site.rank_by_in
    return factors.key_B, factors.site.out_by_rank


def update_distance(factors: Factors, spectrum: Spectrum, sigma: Float64[ndarray, " k"]) -> float:
    """‖ΔW − U·diag(σ)·Vᵀ‖_F of ΔW = scaling·B·A or scaling·B·diag(E)·A, for orthonormal U and V, on factors.

    B = U·P + B⊥ and A = Q·Vᵀ + A⊥ split the difference into four products that are orthogonal to each
    other; only the one of both remainders needs their Gram matrices, and it is of second order.
    """
    U, V, s = spectrum.U, spectrum.V, factors.scaling
    B, A = factors.B.astype(np.float64), factors.right.astype(np.float64)
    P, Q = U.T @ B, A @ V
    B_rest, A_rest = B - U @ P, A - Q @ V.T
    both = np.maximum(((B_rest.T @ B_rest) * (A_rest @ A_rest.T)).sum(), 0.0)
    inside = s * (P @ Q) - np.diag(sigma)
    return float(
        np.sqrt((inside**2).sum() + s * s * (((P @ A_rest) ** 2).sum() + ((B_rest @ Q) ** 2).sum() + both))
    )


def round_to(values: Float64[ndarray, " *shape"], dtype: np.dtype) -> Shaped[ndarray, " *shape"]:
    """Round once to nearest-even. The way to the kinds that numpy lacks passes float32, so that step rounds to odd."""
    if dtype.name in ("float64", "float32", "float16"):
        return values.astype(dtype)
    near = values.astype(np.float32)
    bits = near.view(np.uint32)
    overshoot = np.abs(near.astype(np.float64)) > np.abs(values)
    bits = bits - overshoot.astype(np.uint32)
    inexact = bits.view(np.float32).astype(np.float64) != values
    return np.asarray((bits | inexact.astype(np.uint32)).view(np.float32).astype(dtype))
