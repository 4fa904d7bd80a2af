"""The board of the Surgery page: knobs, bars, gate and map in one component that follows the hand.

The server computes every gain; the component draws them, and while a knob is dragged it reads the
table that `surgery.edits.knob_table` made of that knob's steps. An act reruns the board alone; the page
around it follows when the hand rests.
"""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from numpy import ndarray

import viz
from app.components import component
from app.editing.acts import applied
from app.editing.expecting import expectation_record
from app.editing.knob_tables import LARGEST_DRAWN, drawn, numbers_record, sliders_of_groups, table_keys, table_of
from app.frame import keep_on_disk, show_error
from app.spectra import show_inside
from app.spectra.numbers import ERRORS
from app.state.workspace import Workspace, current, keep
from surgery.edits import (
    ENERGY_RULES,
    STRENGTH,
    Edit,
    EditPlan,
    group_value,
    groups_text,
    is_group_knob,
    largest_text,
    largest_values,
    preview,
    summary,
)
from surgery.errors import SurgeryError
from surgery.policies import POLICIES, Knob, evidence_for, knob_values, knobs_of, position_of
from surgery.spectra import of_equal_rank

ENERGY_LABELS = {
    "l1": "keep the nuclear norm Σσ (l1)",
    "l2": "keep the Frobenius norm ‖σ‖₂ (l2)",
    "functional": "keep the functional energy E‖ΔWx‖²",
    "none": "no rule",
}
SOURCE = "Step sizes and gates start at the values of the authors' released code; the paper does not give them."
_RAISED = 1.5  # σ′₁/σ₁ from which on it is said
_ANSWERED, _REFUSAL, _RESTING = "board-answered", "board-refusal", "board-resting"

_mount = component("surgery_board", Path(__file__).parent, "board")


@st.fragment
def board() -> None:
    """Draw the board of the open workspace, whose policy must not lack sensitivities, and carry out its acts."""
    if st.session_state.pop(_RESTING, False):
        st.rerun()
    refusal = st.session_state.pop(_REFUSAL, None)
    if refusal is not None:
        show_error(refusal)
    workspace = current()
    if workspace.lacks_sensitivities:  # undone to a policy that waits for a calibration
        st.rerun()
    asked = st.session_state.get("board") or {}
    if asked.get("inside") is not None:
        _look_inside(asked["inside"])
    # a table goes out in the one run in which its knob asks for it: it is the large part of the data
    armed = asked.get("arm")
    keys = table_keys(workspace)
    table = table_of(workspace, armed, keys[armed]) if isinstance(armed, str) and armed in keys else None
    _mount(
        key="board",
        data=_data(workspace, st.session_state.get(_ANSWERED, 0), table, keys),
        on_acts_change=_take_acts,
        on_arm_change=lambda: None,
        on_rest_change=_rest,
        on_inside_change=lambda: None,
    )
    keep_on_disk()


def _look_inside(wanted: Any) -> None:
    """Open the Spectra page on a component, with the fold that looks inside it."""
    if isinstance(wanted, dict):
        show_inside(wanted.get("module"), wanted.get("component"))
        st.switch_page("views/spectra.py")


def _take_acts() -> None:
    """Carry out what the board sent since the last run; a refusal is shown and the rest goes on."""
    workspace, answered = current(), st.session_state.get(_ANSWERED, 0)
    sent = st.session_state["board"].get("acts")
    for act in sent if isinstance(sent, list) else []:
        number = act.get("id") if isinstance(act, dict) else None
        if not isinstance(number, int) or number <= answered:
            continue
        try:
            workspace = applied(workspace, act)
        except SurgeryError as error:
            st.session_state[_REFUSAL] = error
        answered = number
    st.session_state[_ANSWERED] = answered
    keep(workspace)


def _rest() -> None:
    st.session_state[_RESTING] = True


def _data(
    workspace: Workspace, answered: int, table: dict[str, Any] | None, keys: Mapping[str, str]
) -> dict[str, Any]:
    plan, spectra, edit, history = workspace.plan, workspace.spectra, workspace.edit, workspace.history
    names = drawn(workspace)
    moments = workspace.sensitivity.moments if workspace.sensitivity else None
    places = np.concatenate([moments.indices[name] for name in names]) if moments else None
    label, position = _positions(workspace, names)
    starts = np.cumsum([0, *(spectra[name].rank for name in names)])
    placed = position[np.isfinite(position)]  # a measurement may not be finite, and JSON has no word for that
    low, high = (float(placed.min()), float(placed.max())) if placed.size else (0.0, 1.0)
    return {
        "answered": answered,
        "at": history.at,
        "steps": len(history.steps),
        "step": history.steps[history.at].label,
        "policies": [{"name": name, "title": kind.title} for name, kind in POLICIES.items()],
        "policy": plan.policy.name,
        "knobs": [
            _knob(knob, plan, max(spectra[name].rank for name in names))
            for knob in (STRENGTH, *knobs_of(plan.policy))
        ],
        "groups": [_knob(knob, plan, 0) for knob in sliders_of_groups(workspace)],
        "groupsTold": groups_text(plan.groups),
        "energies": [[rule, ENERGY_LABELS[rule]] for rule in ENERGY_RULES],
        "energy": plan.energy,
        "sigmaMin": plan.sigma_min,
        "source": SOURCE,
        "scope": plan.scope,
        "scalars": edit.scalars,
        "modules": [
            {
                "name": name,
                "label": _label(workspace, name),
                "layer": spectra[name].layer,
                "family": spectra[name].family,
                "rank": spectra[name].rank,
                "start": int(start),
            }
            for name, start in zip(names, starts, strict=False)
        ],
        "families": list(dict.fromkeys(spectra[name].family for name in names)),
        "sigma": _floats(np.concatenate([edit.modules[name].sigma for name in names])),
        "mean": _floats(moments.mean[places] if moments else np.zeros(0)),
        "error": _floats(moments.error[places] if moments else np.zeros(0)),
        "gains": _floats(np.concatenate([edit.modules[name].gains for name in names])),
        "position": _floats(position),
        "positionRange": [low, high],
        "positionLabel": label,
        "gateTitle": f"Gate: gain of every component under {plan.policy.name}",
        "manual": {name: {str(k): gain for k, gain in gains.items()} for name, gains in plan.manual.items()},
        "numbers": numbers_record(preview(edit, workspace.sensitivity) or summary(edit)),
        "expectation": expectation_record(workspace.expectation),
        "measured": workspace.sensitivity is not None,
        "skipped": " ".join(filter(None, (_skipped(edit), _raised(edit, plan)))),
        "tableKeys": dict(keys),
        "table": table,
        "errors": ERRORS,
        "largestGain": LARGEST_DRAWN,
        "palette": viz.PALETTE,
    }


def _knob(knob: Knob, plan: EditPlan, rank: int) -> dict[str, Any]:
    kind = "choice" if knob.choices else "bool" if knob.kind is bool else "range" if knob.slides else "number"
    values, high = {**knob_values(plan.policy), STRENGTH.name: plan.strength}, knob.high
    if is_group_knob(knob.name):
        values[knob.name] = group_value(plan, knob.name)
    if knob.components:
        high = max(rank if high is None else min(rank, high), values[knob.name])
    return {
        "name": knob.name,
        "label": _knob_label(knob.name),
        "kind": kind,
        # what lies past the end of a slider, infinity too, stands at its end
        "value": min(values[knob.name], high) if knob.unbounded else values[knob.name],
        "low": knob.low,
        "high": high,
        "step": knob.step,
        "choices": list(knob.choices),
        "help": knob.help,
        "idle": not knob.matters(values),
    }


def _knob_label(name: str) -> str:
    """A knob's name as words; a family is written as it is, and a third of the layers says that it is one."""
    if not is_group_knob(name):
        return name.replace("_", " ")
    kind, group = name.split(": ", 1)
    return group if kind == "family" else f"{group} third of the layers"


def _positions(workspace: Workspace, names: list[str]) -> tuple[str, ndarray]:
    """Where each component stands on the axis of the policy's gate, module after module."""
    moments = (
        workspace.sensitivity.moments if workspace.sensitivity and workspace.plan.policy.needs_gradient else None
    )
    found: dict[str, ndarray] = {}
    label = ""
    for group in of_equal_rank(workspace.spectra, names):
        sigma = np.stack([workspace.spectra[name].sigma for name in group])
        with np.errstate(invalid="ignore"):
            label, position = position_of(workspace.plan.policy, evidence_for(group, sigma, moments))
        found |= dict(zip(group, position, strict=True))
    return label, np.concatenate([found[name] for name in names]) if names else np.zeros(0)


def _skipped(edit: Edit) -> str:
    reasons = edit.skipped
    if not reasons:
        return ""
    return f"{len(reasons)} of {len(edit.modules)} modules were left alone: {'; '.join(sorted(set(reasons.values())))}."


def _raised(edit: Edit, plan: EditPlan) -> str:
    """What is said where an energy rule makes the largest value of a module half as large again or more."""
    found = largest_values(edit)
    if plan.energy == "none" or found is None or found.most < _RAISED:
        return ""
    text = largest_text(found, plan.energy if plan.groups.plain else f"{plan.energy} and gains of layer groups")
    return f"{text[0].upper()}{text[1:]}."


def _label(workspace: Workspace, name: str) -> str:
    spectrum = workspace.spectra[name]
    return (
        name
        if spectrum.layer is None
        else f"layer {spectrum.layer} · {name.rpartition('.')[2]} ({spectrum.family})"
    )


def _floats(values: ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f4").tobytes()).decode()
