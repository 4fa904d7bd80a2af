"""Below the paper's Table 4: what each budget of calibration examples is expected to give with one's own adapter."""

from collections.abc import Mapping

import pandas as pd
import streamlit as st

import viz
from app.frame import show_error
from app.state.workspace import Workspace
from surgery.adapter import in_scope
from surgery.edits import EditPlan, Expectation, expected_by_budget
from surgery.errors import SurgeryError
from surgery.policies import knob_values, make_policy

POLICIES = ("grad_direction", "natural_gradient")
Curve = tuple[tuple[int, Expectation], ...]


def budget_view(workspace: Workspace) -> None:
    """The figure and its numbers, from the sensitivities at hand; no model runs."""
    st.markdown("**Your adapter on the axis of Table 4**")
    measured, scope = workspace.sensitivity, workspace.plan.scope
    if measured is None or not set(in_scope(workspace.spectra, scope)) <= set(measured.values):
        st.caption("Calibrate first: the modules of your edit have no sensitivities to expect anything from.")
        return
    try:
        curves = {
            name: expected_by_budget(plan, workspace.spectra, measured)
            for name, plan in budget_plans(workspace.plan).items()
        }
    except SurgeryError as error:
        show_error(error)
        return
    st.plotly_chart(
        viz.budget_curves(
            [_curve(name, found) for name, found in curves.items()], title="Expected of the first n examples"
        ),
        key="paper-budgets",
        alt="Expected change of the loss on held-out rows along the number of calibration examples, a curve a policy",
    )
    st.caption(
        "From the first examples of your calibration slice, cross-fitted, with curvature and 95 % bands. Dotted: what "
        "the same examples promise to first order, which flatters most where there are fewest."
    )
    st.dataframe(budget_table(curves), hide_index=True, width="stretch", key="paper-budget-table")


def budget_plans(plan: EditPlan) -> dict[str, EditPlan]:
    """The gradient policies at their defaults in the board's scope, and the board's own edit where it reads sensitivities."""
    found = {name: EditPlan(make_policy(name), plan.scope) for name in POLICIES}
    if plan.policy.needs_gradient and not plan.needs_protected and plan not in found.values():
        knobs = ", ".join(f"{name} {value:g}" for name, value in knob_values(plan.policy).items())
        found[f"on the board: {plan.policy.name} {knobs}, {plan.energy}"] = plan
    return found


def budget_table(curves: Mapping[str, Curve]) -> pd.DataFrame:
    """A row for each policy and number of examples; a band that holds zero is told as within noise."""
    return pd.DataFrame(
        [
            {
                "edit": name,
                "examples": count,
                "expected Δ loss": f"{each.mean:+.4f}",
                "95 % band": f"{each.low:+.4f} … {each.high:+.4f}",
                "": "within noise" if each.low <= 0 <= each.high else "",
                "first order, same rows": f"{each.first_order:+.4f}",
            }
            for name, found in curves.items()
            for count, each in found
        ]
    )


def _curve(name: str, found: Curve) -> viz.BudgetCurve:
    means, lows, highs, first = (
        [getattr(each, of) for _, each in found] for of in ("mean", "low", "high", "first_order")
    )
    return viz.BudgetCurve(name, [count for count, _ in found], (means, lows, highs), first)
