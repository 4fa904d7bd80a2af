"""The edit that a folder holds: σ′ of an adapter that has the same singular directions as another one.

What `export` wrote of an adapter differs from it in one factor of the edited modules alone, and there by rounding
from U·diag(σ′)·Vᵀ; a smaller form has other ranks in its config too, both factors rounded, and modules left out. Such
a folder is a variant of the adapter as its σ′ is; any other folder is another adapter.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from surgery.adapter import Adapter, Factors, float64, same_bytes
from surgery.edits import Edit, ModuleEdit
from surgery.export.edited_factors import update_distance
from surgery.export.layout import SET_BY_FORM
from surgery.spectra import Spectra, Spectrum

_FLOAT64 = 1e-10  # of ‖B‖·‖A‖: what the decomposition itself is exact to


@dataclass(frozen=True)
class EditReadBack:
    """The edit that a folder is, of the modules that differ, and the first energy rule that all of them keep to."""

    edit: Edit
    energy: str


def edit_between(adapter: Adapter, spectra: Spectra, other: Adapter) -> EditReadBack | None:
    """The edit of `adapter` that `other` is; None where it is none.

    adapter: the original.
    spectra: of all its modules, by name.
    other: an adapter opened from a folder.

    It is an edit when config and all that is no factor are the same but for ranks, and each module's ΔW is
    U·diag(σ′)·Vᵀ up to the rounding of its factors to the dtype that they are stored in.
    """
    smaller = dict(other.config) != dict(adapter.config)
    if smaller and not _same_but_for_ranks(adapter, other):
        return None
    if not _same_besides(adapter, other, smaller):
        return None
    gone = [name for name in adapter.modules if name not in other.modules]
    modules = {name: _module_edit(spectra[name], np.zeros_like(spectra[name].sigma)) for name in gone}
    keeps = {"l1": not gone, "l2": not gone}
    for name in differing_modules(adapter, other):
        factors, spectrum = other.modules[name], spectra[name]
        sigma = np.diag((spectrum.U.T @ float64(factors.B)) @ (float64(factors.right) @ spectrum.V))
        after, rounding = factors.scaling * sigma, _rounding(factors, smaller)
        if after.min() < -rounding or update_distance(factors, spectrum, after) > rounding:
            return None
        modules[name] = _module_edit(spectrum, np.maximum(after, 0.0))
        for rule, order in (("l1", 1), ("l2", 2)):
            moved = np.linalg.norm(after, order) - np.linalg.norm(spectrum.sigma, order)
            # a norm of the singular values moves by at most √r times the distance of the updates
            keeps[rule] &= bool(abs(moved) <= np.sqrt(after.size) * rounding)
    return EditReadBack(Edit(modules), next((rule for rule, kept in keeps.items() if kept), "none"))


def differing_modules(adapter: Adapter, other: Adapter) -> list[str]:
    """Modules that both have and whose factors are not the same byte for byte, scaled alike."""
    return [
        name
        for name, factors in adapter.modules.items()
        if name in other.modules and not _same_factors(factors, other.modules[name])
    ]


def _module_edit(spectrum: Spectrum, after: ndarray) -> ModuleEdit:
    sigma = spectrum.sigma
    return ModuleEdit(np.divide(after, sigma, out=np.ones_like(sigma), where=sigma > 0), sigma, after)


def _same_but_for_ranks(adapter: Adapter, other: Adapter) -> bool:
    """Whether two adapters have other ranks, and configs that differ in nothing but what a smaller form sets."""
    ranks = [{name: factors.rank for name, factors in each.modules.items()} for each in (adapter, other)]
    if ranks[0] == ranks[1]:
        return False
    one, two = (
        {name: v for name, v in each.config.items() if name not in SET_BY_FORM} for each in (adapter, other)
    )
    return one == two


def _same_besides(adapter: Adapter, other: Adapter, smaller: bool) -> bool:
    """Whether two adapters have the same modules, keys and shapes, and the same bytes in all that is no factor.

    A `smaller` form may lack modules, and has shapes of its own.
    """
    factors = {key for each in adapter.modules.values() for key in (each.key_A, each.key_B)}
    missing = set(adapter.tensors) - set(other.tensors)
    if not set(other.tensors) <= set(adapter.tensors) or not missing <= (factors if smaller else set()):
        return False
    if not set(other.modules) <= set(adapter.modules) or (
        not smaller and set(other.modules) != set(adapter.modules)
    ):
        return False
    return all(
        same_bytes(adapter.tensors[key], tensor)
        if key not in factors
        else smaller or adapter.tensors[key].shape == tensor.shape
        for key, tensor in other.tensors.items()
    )


def _same_factors(one: Factors, other: Factors) -> bool:
    return one.scaling == other.scaling and same_bytes(one.B, other.B) and same_bytes(one.A, other.A)


def _rounding(factors: Factors, both: bool) -> float:
    """How far ΔW may be from what was to be stored, in Frobenius norm: one rounding of every entry of a factor, or of both."""
    B, A = float64(factors.B), float64(factors.right)
    sizes = float(np.linalg.norm(B)), float(np.linalg.norm(A))
    of_B, of_A = (_unit(factors.B, sizes[0]) * sizes[1], _unit(factors.A, sizes[1]) * sizes[0])
    rounded = of_B + of_A if both else max(of_B, of_A)
    return float(abs(factors.scaling) * (rounded + _FLOAT64 * sizes[0] * sizes[1]))


def _unit(stored: Shaped[ndarray, "..."], size: float) -> float:
    """The Frobenius norm of the largest rounding of a matrix of that norm in the dtype that it is stored in."""
    about = ml_dtypes.finfo(stored.dtype)
    return float(about.eps / 2 * size + float(about.smallest_subnormal) / 2 * np.sqrt(stored.size))
