"""Write-back of gains into the factors of a LoRA: B′ = B + U·diag(α − 1)·Uᵀ·B, or its mirror where B is frozen."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import ml_dtypes
import numpy as np
from jaxtyping import Float64, Shaped
from numpy import ndarray

from surgery.adapter import Adapter, Factors, float64
from surgery.edits import Edit
from surgery.errors import ExportError
from surgery.spectra import Spectra, Spectrum, one_thread

_SAME_UPDATE = 1e-10


def write_back(adapter: Adapter, spectra: Spectra, edit: Edit) -> dict[str, Shaped[ndarray, "..."]]:
    """New tensors by key, in the file's dtype, for the modules whose gains are not all 1.

    They are B's, or A's where the adapter's B is frozen. Experts that share a tensor share its copy. Raises
    `ExportError` where the file's dtype cannot hold one.
    """
    changed: dict[str, ndarray] = {}
    for _ in written_modules(adapter, spectra, edit, changed):
        pass
    return changed


def written_modules(
    adapter: Adapter, spectra: Spectra, edit: Edit, changed: dict[str, Shaped[ndarray, "..."]]
) -> Iterator[tuple[str, Factors]]:
    """Put the new tensors into `changed` as `write_back` does, and yield each module with its new factors."""
    with one_thread():
        for name, module in edit.modules.items():
            if (module.gains == 1).all():
                continue
            factors, spectrum, step = adapter.modules[name], spectra[name], module.gains - 1
            key, view = edited_factor(factors)
            if key not in changed:
                changed[key] = adapter.tensors[key].copy()
            if factors.mirror:
                exact = float64(factors.A)
                exact += (exact @ spectrum.V * step) @ spectrum.V.T
            else:
                exact = float64(factors.B)
                exact += spectrum.U @ (step[:, None] * (spectrum.U.T @ exact))
            new = view(changed[key])
            with np.errstate(over="ignore"):
                rounded = round_to(exact, new.dtype)
            refuse_out_of_range(name, "A" if factors.mirror else "B", exact, rounded)
            new[...] = rounded
            yield name, replace(factors, A=new) if factors.mirror else replace(factors, B=new)


def relative_distance(factors: Factors, spectrum: Spectrum, sigma: Float64[ndarray, " k"]) -> float:
    """`update_distance` relative to ‖σ‖; 0 for an update of zero."""
    size = float(np.linalg.norm(sigma))
    return update_distance(factors, spectrum, sigma) / size if size > 0 else 0.0


def check_spectra(adapter: Adapter, spectra: Spectra, edit: Edit) -> None:
    """Raise `ExportError` for spectra of another adapter: U·diag(σ)·Vᵀ has to be scaling·B·A to float64 precision."""
    for name in edit.modules:
        factors, spectrum = adapter.modules.get(name), spectra.get(name)
        if factors is None or spectrum is None or not _same_update(factors, spectrum):
            raise ExportError(f"the spectra of module {name!r} are not this adapter's", "decompose this adapter")


def _same_update(factors: Factors, spectrum: Spectrum) -> bool:
    if spectrum.is_of(factors):
        return True
    B, A, scaling = factors.B, factors.right, factors.scaling
    if (B.shape[0], A.shape[1]) != spectrum.shape:
        return False
    if max(_skewness(spectrum.U), _skewness(spectrum.V)) > _SAME_UPDATE:
        return False
    size = np.linalg.norm(float64(B)) * np.linalg.norm(float64(A)) * abs(scaling)
    return bool(update_distance(factors, spectrum, spectrum.sigma) <= _SAME_UPDATE * size)


def _skewness(basis: Float64[ndarray, "dimension k"]) -> float:
    """How far the columns are from orthonormal."""
    return float(np.abs(basis.T @ basis - np.eye(basis.shape[1])).max())


def refuse_out_of_range(
    name: str, side: str, exact: Float64[ndarray, "*shape"], rounded: Shaped[ndarray, "*shape"]
) -> None:
    """Raise `ExportError` where rounding a factor to the file's dtype left its range."""
    if np.isfinite(rounded).all():
        return
    largest, most = np.abs(exact).max(), float(ml_dtypes.finfo(rounded.dtype).max)
    raise ExportError(
        f"the new {side} of module {name!r} reaches {largest:.3g} and {rounded.dtype.name} ends at {most:.5g}",
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
    B, A = float64(factors.B), float64(factors.right)
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
