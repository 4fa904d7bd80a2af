"""What an edit does, apart from the adapter it is done to: policy, scope, energy rule, clamp, manual gains."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from surgery.adapter import RESIDUAL, SCOPES, check_scope, scope_note
from surgery.edits.edit import Edit, Manual, check_rules, make_edit
from surgery.edits.layer_groups import LayerGroups, grouped, groups_record, parse_groups
from surgery.edits.protection import spared
from surgery.edits.strength import check_strength, with_strength
from surgery.errors import RecipeError
from surgery.files import mapping_of, number_of, refuse_unknown
from surgery.policies import GradDirection, Policy, knob_values, make_policy
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra


@dataclass(frozen=True)
class EditPlan:
    """What is done to the singular values: a policy, where it acts, what follows it, gains by hand.

    Without an energy rule it takes the policy's usual one. `strength` is the dose λ of the whole edit, from 0 to
    1.5: σ′(λ) = (1 − λ)σ + λσ′. `protect` takes out of the step what hurts the protected slices, as `spared`. `groups`
    are gains of families and thirds of the layers, as `grouped`.
    """

    policy: Policy = field(default_factory=GradDirection)
    scope: str = "residual"
    energy: str = ""
    sigma_min: float = 0.0
    manual: Manual = field(default_factory=dict)
    strength: float = 1.0
    protect: bool = False
    groups: LayerGroups = field(default_factory=LayerGroups)

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if not self.energy:
            object.__setattr__(self, "energy", self.policy.usual_energy)

    @property
    def needs_sensitivity(self) -> bool:
        """Whether it works from a measurement: of sensitivities, or of the second moments of inputs."""
        return self.policy.needs_gradient or self.needs_inputs or self.protect

    @property
    def needs_protected(self) -> bool:
        """Whether it works from the measurements of protected slices too."""
        return self.protect or self.policy.needs_protected

    @property
    def needs_inputs(self) -> bool:
        """Whether it works from the second moments of what enters the modules, which earlier measurements lack."""
        return self.policy.needs_q or self.energy == "functional"

    def apply(self, spectra: Spectra, sensitivity: Sensitivity | None) -> Edit:
        """The edit of an adapter; raises `PolicyError` as `make_edit` does."""
        whole = make_edit(
            spectra,
            self.policy,
            sensitivity=sensitivity,
            scope=self.scope,
            energy=self.energy,
            sigma_min=self.sigma_min,
            manual=self.manual,
        )
        whole = grouped(whole, self.groups, spectra, self.sigma_min)
        if self.protect:
            whole = spared(whole, sensitivity, self.sigma_min, self.manual)
        return with_strength(whole, self.strength, self.sigma_min)

    def notes(self, names: Iterable[str]) -> tuple[str, ...]:
        """What is to be told of the plan where it is applied to modules of these names."""
        note = scope_note(names) if self.scope == RESIDUAL else ""
        return (note,) if note else ()


def edit_record(plan: EditPlan) -> dict[str, Any]:
    """A plan as a recipe's `edit` section; `parse_edit` of it gives the same plan."""
    return {
        "scope": plan.scope,
        "policy": plan.policy.name,
        # JSON has no word for infinity; a knob that may be infinite reads this one
        "knobs": {k: "inf" if value == math.inf else value for k, value in knob_values(plan.policy).items()},
        "energy": plan.energy,
        "sigma_min": plan.sigma_min,
        "manual": {
            name: {k: float(gain) for k, gain in gains.items()} for name, gains in plan.manual.items() if gains
        },
        # plans of earlier versions have none, and keep their digests
        **({} if plan.strength == 1 else {"strength": plan.strength}),
        **({"protect": True} if plan.protect else {}),
        **({} if plan.groups.plain else {"groups": groups_record(plan.groups)}),
    }


def parse_edit(edit: Mapping[str, Any]) -> EditPlan:
    """An `edit` section, validated; raises `RecipeError` or `PolicyError` for the first thing wrong."""
    known = {"scope", "policy", "knobs", "energy", "sigma_min", "manual", "strength", "protect", "groups"}
    refuse_unknown(edit, known, "edit")
    protect = edit.get("protect", False)
    if not isinstance(protect, bool):
        raise RecipeError(f"edit.protect cannot be {protect!r}", "write true or false")
    policy = make_policy(str(edit.get("policy")), mapping_of(edit.get("knobs"), "edit.knobs"))
    scope, energy = edit.get("scope", "residual"), edit.get("energy", policy.usual_energy)
    sigma_min = number_of(edit.get("sigma_min", 0.0), "edit.sigma_min")
    if not isinstance(scope, str) or not isinstance(energy, str):
        raise RecipeError(
            f"edit.scope is {scope!r} and edit.energy is {energy!r}, and both are to be text",
            "write a name for each",
        )
    if scope not in SCOPES:
        check_scope(scope)
    check_rules(energy, sigma_min)
    return EditPlan(
        policy=policy,
        scope=scope,
        energy=energy,
        sigma_min=sigma_min,
        manual=_manual(edit.get("manual")),
        strength=number_of(edit.get("strength", 1.0), "edit.strength"),
        protect=protect,
        groups=parse_groups(edit.get("groups")),
    )


def stored_edit(record: Mapping[str, Any]) -> EditPlan:
    """An `edit_record` that was kept as JSON, which makes texts of the numbers of components; raises as `parse_edit`."""
    manual = {name: {int(k): gain for k, gain in gains.items()} for name, gains in record["manual"].items()}
    return parse_edit({**record, "manual": manual})


def _manual(value: Any) -> Manual:
    manual: dict[str, dict[int, float]] = {}
    for name, gains in mapping_of(value, "edit.manual").items():
        where = f"edit.manual.{name}"
        manual[str(name)] = {}
        for component, gain in mapping_of(gains, where).items():
            if not isinstance(component, int) or isinstance(component, bool) or component < 0:
                raise RecipeError(f"{where} names component {component!r}", "count components from 0")
            number = number_of(gain, where)
            if not 0 <= number < math.inf:
                raise RecipeError(f"{where} has gain {gain!r}", "use gains from 0 up")
            manual[str(name)][component] = number
    return manual
