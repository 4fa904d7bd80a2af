"""The strength of an edit: how far σ goes towards σ′, or past it.

σ′(λ) = (1 − λ)σ + λσ′, after clamp and energy rule: the dose of a dose–response curve, alike for every policy.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.edits.edit import Edit, ModuleEdit, gains_of
from surgery.errors import PolicyError
from surgery.policies import Knob

STRONGEST = 1.5
STRENGTH = Knob(
    "strength",
    float,
    1.0,
    "how far every σ goes towards its new value: 0 nowhere, 1 all the way, more beyond it",
    low=0.0,
    high=STRONGEST,
    step=0.05,
)


def check_strength(strength: float) -> None:
    """Raises `PolicyError` for a strength out of 0 to `STRONGEST`."""
    if not 0 <= strength <= STRONGEST:
        raise PolicyError(
            f"the strength of an edit cannot be {strength!r}", f"use a number from 0 to {STRONGEST:g}"
        )


def with_strength(edit: Edit, strength: float, sigma_min: float = 0.0) -> Edit:
    """The edit at strength λ; 0 leaves every σ as it is and 1 every σ′, bit for bit.

    sigma_min: the clamp of the edit, which holds above 1 too; a component that the energy rule left below it stays
        where it is.
    """
    return edit if strength == 1 else Edit(modules_at(edit.modules, strength, sigma_min))


def modules_at(
    modules: Mapping[str, ModuleEdit], strength: float, sigma_min: float = 0.0
) -> dict[str, ModuleEdit]:
    """`with_strength` of modules by name."""
    if strength == 1:
        return dict(modules)
    found = {}
    for name, module in modules.items():
        after = sigma_at(module.sigma, module.sigma_after, strength, sigma_min)
        found[name] = replace(module, sigma_after=after, gains=gains_of(module.sigma, after))
    return found


def sigma_at(
    sigma: Float64[ndarray, "*module rank"],
    after: Float64[ndarray, "*module rank"],
    strength: float,
    sigma_min: float = 0.0,
) -> Float64[ndarray, "*module rank"]:
    """(1 − λ)σ + λσ′ of any stack of modules, not below the clamp where σ′ is not."""
    if strength == 0:
        return sigma.copy()
    # a component that the edit leaves alone moves by no bit
    moved = np.where(after == sigma, sigma, (1 - strength) * sigma + strength * after)
    return moved if strength <= 1 else np.maximum(moved, np.minimum(sigma_min, after))
