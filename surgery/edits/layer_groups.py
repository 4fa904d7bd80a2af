"""Gains of layer groups: one number for each family of modules, each third of the layers, or each family in each third.

They act on top of any policy and of gains set by hand. A module's gain is the product of those of its groups and multiplies
its σ′ after the energy rule, which would undo a uniform scale of a module: under a rule the module then holds that many times
its norm. The clamp is kept, components at rounding level stay as they are, and the protection and the strength come after.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.edits.edit import Edit, ModuleEdit, gains_of
from surgery.errors import PolicyError, RecipeError
from surgery.files import mapping_of, number_of, refuse_unknown
from surgery.spectra import Spectra, null_components

LARGEST_GAIN = 2.0
THIRDS = ("first", "middle", "last")
Thirds = tuple[float, float, float]
_ONES: Thirds = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class LayerGroups:
    """Gains from 0 to 2 of groups of modules; what is not named has gain 1.

    family: by the family of modules, as `q_proj`.
    third: of the first, middle and last third of the adapter's layers.
    both: of a family in each third, by family.

    Raises `PolicyError` for a gain out of range. Gains of 1 are not kept: they say nothing.
    """

    family: Mapping[str, float] = field(default_factory=dict)
    third: Thirds = _ONES
    both: Mapping[str, Thirds] = field(default_factory=dict)

    def __post_init__(self) -> None:
        both = {name: _three(gains, f"family {name!r}") for name, gains in self.both.items()}
        for gain in (*self.family.values(), *(gain for gains in both.values() for gain in gains)):
            _check(gain)
        object.__setattr__(self, "third", _three(self.third, "the layers"))
        object.__setattr__(self, "family", {n: float(gain) for n, gain in self.family.items() if gain != 1})
        object.__setattr__(self, "both", {name: gains for name, gains in both.items() if gains != _ONES})

    def __hash__(self) -> int:
        return hash((frozenset(self.family.items()), self.third, frozenset(self.both.items())))

    @property
    def plain(self) -> bool:
        """Whether every gain is 1."""
        return not self.family and not self.both and self.third == _ONES

    def gain(self, family: str, third: int | None) -> float:
        """Of a module of that family in that third, counted from 0; None for one that is in no layer."""
        gain = self.family.get(family, 1.0)
        return gain if third is None else gain * self.third[third] * self.both.get(family, _ONES)[third]


def thirds_of(spectra: Spectra) -> dict[str, int | None]:
    """The third of the adapter's layers that each module is in, 0, 1 or 2; None for one that is in no layer.

    The layers are those that any module of `spectra` is in, in their order, whatever an edit's scope; n layers are cut
    at n/3 and 2n/3.
    """
    layers = sorted({spectrum.layer for spectrum in spectra.values() if spectrum.layer is not None})
    places = {layer: 3 * place // len(layers) for place, layer in enumerate(layers)}
    return {name: None if each.layer is None else places[each.layer] for name, each in spectra.items()}


def group_gains(groups: LayerGroups, spectra: Spectra, names: Iterable[str]) -> dict[str, float]:
    """The gain of each of the modules `names`; raises `PolicyError` for a family that the adapter does not have."""
    known = dict.fromkeys(spectrum.family for spectrum in spectra.values())
    for family in (*groups.family, *groups.both):
        if family not in known:
            raise PolicyError(f"the adapter has no family {family!r} to scale", f"name one of {', '.join(known)}")
    thirds = thirds_of(spectra)
    return {name: groups.gain(spectra[name].family, thirds[name]) for name in names}


def grouped(edit: Edit, groups: LayerGroups, spectra: Spectra, sigma_min: float = 0.0) -> Edit:
    """The edit with its modules scaled; those of gain 1 stay bit for bit.

    edit: after clamp and energy rule.
    groups: the gains.
    spectra: of all modules of the adapter, by name.
    sigma_min: the clamp of the edit; a component that the energy rule left below it stays where it is.

    A module that the policy left alone is scaled too, and then no longer told as left alone.
    """
    if groups.plain:
        return edit
    gains = group_gains(groups, spectra, edit.modules)
    return Edit({name: scaled_module(module, gains[name], sigma_min) for name, module in edit.modules.items()})


def scaled_module(module: ModuleEdit, gain: float, sigma_min: float) -> ModuleEdit:
    """A module scaled by its gain, as `grouped` does."""
    if gain == 1 or not module.sigma.any():
        return module
    gains = np.where(null_components(module.sigma), 1.0, gain)
    after = scaled_sigma(module.sigma_after, gains, sigma_min)
    return replace(module, sigma_after=after, gains=gains_of(module.sigma, after), skipped=None)


def component_gains(groups: LayerGroups, spectra: Spectra, names: Iterable[str]) -> Float64[ndarray, " component"]:
    """The gains of the components of modules, end to end: their module's, and 1 at rounding level."""
    gains = group_gains(groups, spectra, names)
    parts = [np.where(null_components(spectra[name].sigma), 1.0, gain) for name, gain in gains.items()]
    return np.concatenate(parts)


def scaled_sigma(
    after: Float64[ndarray, "*edit component"], gains: Float64[ndarray, " component"], sigma_min: float = 0.0
) -> Float64[ndarray, "*edit component"]:
    """gain·σ′ of one edit or of one for each fold, not below the clamp where σ′ is not; a gain of 1 moves no bit."""
    return np.maximum(gains * after, np.minimum(sigma_min, after))


def groups_record(groups: LayerGroups) -> dict[str, Any]:
    """As a recipe has them, without gains of 1; `parse_groups` reads it."""
    record: dict[str, Any] = {"family": dict(groups.family)} if groups.family else {}
    if groups.third != _ONES:
        record["third"] = list(groups.third)
    return record | ({"both": {name: list(gains) for name, gains in groups.both.items()}} if groups.both else {})


def parse_groups(value: Any, where: str = "edit.groups") -> LayerGroups:
    """Groups from their record; raises `RecipeError` for what is no such record, and `PolicyError` for a gain out of range."""
    record = mapping_of(value, where)
    refuse_unknown(record, {"family", "third", "both"}, where)
    family = mapping_of(record.get("family"), f"{where}.family")
    both = mapping_of(record.get("both"), f"{where}.both")
    return LayerGroups(
        {str(name): number_of(gain, f"{where}.family.{name}") for name, gain in family.items()},
        _thirds(record.get("third", list(_ONES)), f"{where}.third"),
        {str(name): _thirds(gains, f"{where}.both.{name}") for name, gains in both.items()},
    )


def groups_text(groups: LayerGroups) -> str:
    """The gains in a few words; empty where all are 1."""
    said = [f"{name} ×{gain:g}" for name, gain in groups.family.items()]
    said += [f"{third} third ×{gain:g}" for third, gain in zip(THIRDS, groups.third, strict=True) if gain != 1]
    for name, gains in groups.both.items():
        said += [f"{name} in the {third} third ×{g:g}" for third, g in zip(THIRDS, gains, strict=True) if g != 1]
    return ", ".join(said)


def _check(gain: float) -> None:
    if not 0 <= gain <= LARGEST_GAIN:
        raise PolicyError(
            f"the gain of a layer group cannot be {gain!r}", f"use a number from 0 to {LARGEST_GAIN:g}"
        )


def _three(gains: Iterable[float], where: str) -> Thirds:
    found = tuple(map(float, gains))
    if len(found) != len(THIRDS):
        raise PolicyError(
            f"{len(found)} gains were given for the thirds of {where}", "give three: first, middle, last"
        )
    for gain in found:
        _check(gain)
    return found[0], found[1], found[2]


def _thirds(value: Any, where: str) -> Thirds:
    if not isinstance(value, list) or len(value) != len(THIRDS):
        raise RecipeError(f"{where} cannot be {value!r}", "list three gains: first, middle and last third")
    first, middle, last = (number_of(gain, where) for gain in value)
    return first, middle, last
