"""Invert the energy rule: the manual gains that give the σ′ asked for."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.edits.edit import ModuleEdit
from surgery.edits.layer_groups import LayerGroups, group_gains
from surgery.edits.plan import EditPlan
from surgery.errors import PolicyError
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra

_ROOM = 1e-3


def hold(
    spectra: Spectra, plan: EditPlan, sensitivity: Sensitivity | None, name: str, components: Iterable[int]
) -> EditPlan:
    """The plan with components fixed at the gains they have now; energy rule and gains of layer groups still follow.

    spectra: of all modules, by name.
    plan: the edit so far.
    sensitivity: gₖ by example and component, where it is measured.
    name: the module.
    components: indices of its components, from 0.
    """
    asked = _before_energy(spectra, plan, sensitivity, name, 0.0).gains
    return _with_manual(plan, name, {k: float(asked[k]) for k in components})


def put(
    spectra: Spectra,
    plan: EditPlan,
    sensitivity: Sensitivity | None,
    name: str,
    gains: Mapping[int, float],
) -> EditPlan:
    """The plan with manual gains such that σ′ₖ = gainₖ·σₖ holds after the energy rule for the components named.

    spectra: of all modules, by name.
    plan: the edit so far.
    sensitivity: gₖ by example and component, where it is measured.
    name: the module.
    gains: σ′ₖ/σₖ wanted, by component.

    Components of the module that were set by hand before stay where they are now.
    With rule l1, the others share what is left of Σσ: they are scaled by c = (Σσ − Σt)/S, where t are
    the wanted σ′ and S is what the others ask for, so the named ones ask for t/c (l2 alike, on squares).
    Raises `PolicyError` when the wanted σ′ leave nothing for the others.
    """
    asked = _before_energy(spectra, plan, sensitivity, name, plan.sigma_min).sigma_after
    sigma = spectra[name].sigma
    present = replace(plan, strength=1.0, groups=LayerGroups()).apply(spectra, sensitivity).modules[name].gains
    asked_for = _without_groups(spectra, plan, name, _at_full_strength(plan, gains))
    wanted = {k: float(present[k]) for k in plan.manual.get(name, {})} | asked_for
    if plan.energy != "none" and any(gain > 0 for gain in wanted.values()):
        power = 1 if plan.energy == "l1" else 2
        weight = _weights(plan, sensitivity, name, sigma)
        others = np.ones(sigma.size, dtype=bool)
        others[list(wanted)] = False
        left = (weight * asked**power)[others].sum()
        total = (weight * sigma**power).sum()
        target = sum(weight[k] * (gain * sigma[k]) ** power for k, gain in wanted.items())
        if left > 0:
            if target >= total * (1 - _ROOM):
                raise PolicyError(
                    f"these components would take all of the norm that energy rule {plan.energy} holds in the module",
                    "choose a smaller gain, or energy none",
                )
            scale = ((total - target) / left) ** (1 / power)
            wanted = {k: float(gain / scale) for k, gain in wanted.items()}
    return _with_manual(plan, name, wanted)


def release(plan: EditPlan, name: str, components: Iterable[int]) -> EditPlan:
    """The plan without manual gains of these components: they follow the policy again."""
    gone = set(components)
    kept = {k: gain for k, gain in plan.manual.get(name, {}).items() if k not in gone}
    others = {other: gains for other, gains in plan.manual.items() if other != name}
    return replace(plan, manual={**others, name: kept} if kept else others)


def _before_energy(
    spectra: Spectra, plan: EditPlan, sensitivity: Sensitivity | None, name: str, sigma_min: float
) -> ModuleEdit:
    """The module as the plan leaves it to the energy rule."""
    modules = (
        replace(plan, energy="none", sigma_min=sigma_min, strength=1.0, protect=False, groups=LayerGroups())
        .apply(spectra, sensitivity)
        .modules
    )
    if name not in modules:
        raise PolicyError(f"module {name!r} is not in scope", "widen the scope")
    return modules[name]


def _at_full_strength(plan: EditPlan, gains: Mapping[int, float]) -> dict[int, float]:
    """The gains at strength 1 that come to these at the plan's: 1 + (gain − 1)/λ."""
    if plan.strength == 0:
        raise PolicyError("at strength 0 no component moves", "raise the strength first")
    whole = {k: 1 + (gain - 1) / plan.strength if plan.strength != 1 else gain for k, gain in gains.items()}
    for k, gain in whole.items():
        # rounding may leave a component at zero a hair below it
        if gain < -1e-12:
            raise PolicyError(
                f"at strength {plan.strength:g} no gain goes below {max(0.0, 1 - plan.strength):.3g}, and component "
                f"{k} was to have {gains[k]:.3g}",
                "raise the strength, or ask for a larger gain",
            )
    return {k: max(gain, 0.0) for k, gain in whole.items()}


def _without_groups(spectra: Spectra, plan: EditPlan, name: str, gains: Mapping[int, float]) -> dict[int, float]:
    """The gains before those of the module's layer groups multiply them."""
    gain = group_gains(plan.groups, spectra, [name])[name]
    if gain == 0:
        raise PolicyError(
            "the gain of a layer group of this module is 0, so no component can be raised", "raise that first"
        )
    return dict(gains) if gain == 1 else {k: each / gain for k, each in gains.items()}


def _weights(
    plan: EditPlan, sensitivity: Sensitivity | None, name: str, sigma: Float64[ndarray, " rank"]
) -> Float64[ndarray, " rank"]:
    """What each component counts in the norm that the energy rule holds: q under `functional`."""
    if plan.energy != "functional" or sensitivity is None:
        return np.ones_like(sigma)
    q = sensitivity.moments.q[sensitivity.moments.indices[name]]
    return q if np.isfinite(q).all() else np.ones_like(sigma)


def _with_manual(plan: EditPlan, name: str, gains: Mapping[int, float]) -> EditPlan:
    manual = {**plan.manual, name: {**plan.manual.get(name, {}), **gains}}
    return replace(plan, manual=manual)
