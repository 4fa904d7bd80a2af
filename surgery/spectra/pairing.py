"""Which modules stand against which: a family in layer order, two families layer by layer, one of two adapters."""

import math
from collections.abc import Iterable, Sequence

from surgery.errors import PolicyError
from surgery.spectra.spectrum import Spectra, Spectrum


def depth(module: Spectrum) -> float:
    """The module's layer as a key to sort by; modules outside the layer stack come last, as in an adapter."""
    return math.inf if module.layer is None else module.layer


def family_members(spectra: Spectra, family: str) -> list[Spectrum]:
    """The modules of one family in layer order; raises `PolicyError` when there are none."""
    members = [module for module in spectra.values() if module.family == family]
    if not members:
        known = dict.fromkeys(module.family for module in spectra.values())
        raise PolicyError(f"no modules of family {family!r}", f"use one of {', '.join(known)}")
    return sorted(members, key=depth)


def paired_families(
    spectra: Spectra, first: str, second: str, *, side: str
) -> tuple[list[Spectrum], list[Spectrum]]:
    """The modules of two families on the layers both have, in layer order: equally many, layer by layer.

    Raises `PolicyError` where the families share no layer, or their `side` spaces no dimension.
    """
    left = {module.layer: module for module in family_members(spectra, first)}
    right = {module.layer: module for module in family_members(spectra, second)}
    layers = [layer for layer in left if layer in right]
    if not layers:
        raise PolicyError(f"{first} and {second} share no layer", "choose two families of one layer stack")
    rows, columns = [left[layer] for layer in layers], [right[layer] for layer in layers]
    ours, theirs = _dimensions(rows, side), _dimensions(columns, side)
    if not ours & theirs:
        raise PolicyError(
            f"the {side} spaces have {_listed(ours)} and {_listed(theirs)} dimensions and cannot be compared",
            "compare modules that share the space, such as the residual writers on the output side",
        )
    return rows, columns


def family_of_both(
    left: Spectra, right: Spectra, family: str, *, side: str
) -> tuple[list[Spectrum], list[Spectrum]]:
    """The modules of one family in adapter `left` and in adapter `right`, each in layer order.

    Raises `PolicyError` where one has none, or their `side` spaces share no dimension.
    """
    rows = family_members(left, family)
    if all(module.family != family for module in right.values()):
        raise PolicyError(f"the other adapter has no {family}", "choose a family that both have")
    columns = family_members(right, family)
    ours, theirs = _dimensions(rows, side), _dimensions(columns, side)
    if not ours & theirs:
        raise PolicyError(
            f"{family} has {_listed(ours)} {side} dimensions in one adapter and {_listed(theirs)} in the other",
            "compare adapters of the same base model",
        )
    return rows, columns


def _dimensions(modules: Sequence[Spectrum], side: str) -> set[int]:
    return {module.directions(side).shape[0] for module in modules}


def _listed(dimensions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(dimensions)))
