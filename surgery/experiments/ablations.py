"""The paper's ablations on one's own edit: energy rule (Table 3), calibration budget (Table 4), scope (Table 5).

Each gives variants that differ from the edit in one thing alone; `proof.prove` scores them side by side.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from surgery.adapter import SCOPES, modules_in
from surgery.edits import ENERGY_RULES, Edit, EditPlan
from surgery.errors import PolicyError
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra

BUDGETS = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Variants:
    """Edits by name with the plans that made them, and why others that belong here cannot be made."""

    edits: Mapping[str, Edit]
    plans: Mapping[str, EditPlan]
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Diagnostic:
    """One table of the paper as a question to an edit. `purpose` names its runs in the history."""

    purpose: str
    table: int
    title: str
    question: str
    variants: Callable[[Spectra, EditPlan, Sensitivity | None], Variants]


def energy_rules(spectra: Spectra, plan: EditPlan, sensitivity: Sensitivity | None) -> Variants:
    """The edit under each energy rule (paper §5.4, Table 3)."""
    return _made(
        {f"energy {rule}": replace(plan, energy=rule) for rule in ENERGY_RULES},
        lambda each: each.apply(spectra, sensitivity),
    )


def calibration_budgets(spectra: Spectra, plan: EditPlan, sensitivity: Sensitivity | None) -> Variants:
    """The edit from the first examples of its calibration alone, without another pass (paper §5.4, Table 4).

    Raises `PolicyError` for a policy that takes no sensitivities: no budget changes it.
    """
    if sensitivity is None or not plan.policy.needs_gradient:
        raise PolicyError(
            f"{plan.policy.name} does not look at sensitivities, so no calibration budget changes it",
            "choose a policy that does",
        )
    sizes = sorted({size for size in BUDGETS if size < sensitivity.examples} | {sensitivity.examples})
    edits = {f"{size} examples": plan.apply(spectra, sensitivity.head(size)) for size in sizes}
    return Variants(edits, dict.fromkeys(edits, plan))


def scopes(spectra: Spectra, plan: EditPlan, sensitivity: Sensitivity | None) -> Variants:
    """The edit in each named scope that the adapter has, beside its own (paper §5.4, Table 5).

    Gains by hand on modules outside a scope are not part of the edit there.
    """
    plans = {}
    for scope in dict.fromkeys((plan.scope, *SCOPES)):
        names = set(modules_in(spectra, scope))
        if not names:
            continue  # the adapter has no such modules
        manual = {name: gains for name, gains in plan.manual.items() if name in names}
        plans[f"scope {scope}"] = replace(plan, scope=scope, manual=manual)
    return _made(plans, lambda each: each.apply(spectra, sensitivity))


DIAGNOSTICS = (
    Diagnostic(
        "energy",
        3,
        "Energy rule",
        "Does holding Σσ, Σσ² or E‖ΔWx‖² of each module help or hold the edit back?",
        energy_rules,
    ),
    Diagnostic("budget", 4, "Calibration budget", "How many examples does the edit need?", calibration_budgets),
    Diagnostic("scope", 5, "Scope", "Which modules does the gain come from?", scopes),
)


def _made(plans: Mapping[str, EditPlan], apply: Callable[[EditPlan], Edit]) -> Variants:
    edits: dict[str, Edit] = {}
    left_out: dict[str, str] = {}
    for name, plan in plans.items():
        try:
            edits[name] = apply(plan)
        except PolicyError as error:
            left_out[name] = str(error)
    if not edits:
        raise PolicyError(next(iter(left_out.values())), "change the edit first")
    return Variants(edits, {name: plans[name] for name in edits}, left_out)
