"""The board of the Surgery page: knobs, bars, gate and map in one component that follows the hand.

The server computes every gain; the component draws them, and while a knob is dragged it reads the
table that `surgery.edits.knob_table` made of that knob's steps. An act reruns the board alone; the page
around it follows when the hand rests.
"""

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from numpy import ndarray

import viz
from app.components import component
from app.editing.acts import applied
from app.editing.expecting import expectation_record
from app.experts import shown
from app.frame import keep_on_disk, show_error
from app.spectra.numbers import ERRORS
from app.state.workspace import Workspace, current, keep
from surgery.edits import (
    ENERGY_RULES,
    STRENGTH,
    Edit,
    EditPlan,
    KnobTable,
    Preview,
    edit_record,
    knob_table,
    largest_text,
    largest_values,
    preview,
    summary,
)
from surgery.errors import SurgeryError
from surgery.files import digest
from surgery.policies import POLICIES, Knob, evidence_for, knob_values, knobs_of, position_of
from surgery.spectra import of_equal_rank

ENERGY_LABELS = {
    "l1": "keep the nuclear norm Σσ (l1)",
    "l2": "keep the Frobenius norm ‖σ‖₂ (l2)",
    "functional": "keep the functional energy E‖ΔWx‖²",
    "none": "no rule",
}
SOURCE = "Step sizes and gates start at the values of the authors' released code; the paper does not give them."
_GAIN_UNIT = 4096  # a table's gains travel as whole numbers of 1/4096
_CODES = 2**16
_TABLES = 12
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
    # a table goes out in the one run in which its knob asks for it: it is the large part of the data
    armed = (st.session_state.get("board") or {}).get("arm")
    keys = _table_keys(workspace)
    table = _table(workspace, armed, keys[armed]) if isinstance(armed, str) and armed in keys else None
    _mount(
        key="board",
        data=_data(workspace, st.session_state.get(_ANSWERED, 0), table, keys),
        on_acts_change=_take_acts,
        on_arm_change=lambda: None,
        on_rest_change=_rest,
    )
    keep_on_disk()


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
    names = _drawn(workspace)
    moments = workspace.sensitivity.moments if workspace.sensitivity else None
    places = np.concatenate([moments.indices[name] for name in names]) if moments else None
    label, position = _positions(workspace, names)
    starts = np.cumsum([0, *(spectra[name].rank for name in names)])
    drawn = position[np.isfinite(position)]  # a measurement may not be finite, and JSON has no word for that
    low, high = (float(drawn.min()), float(drawn.max())) if drawn.size else (0.0, 1.0)
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
        "numbers": _numbers(preview(edit, workspace.sensitivity) or summary(edit)),
        "expectation": expectation_record(workspace.expectation),
        "measured": workspace.sensitivity is not None,
        "skipped": " ".join(filter(None, (_skipped(edit), _raised(edit, plan.energy)))),
        "tableKeys": dict(keys),
        "table": table,
        "errors": ERRORS,
        "largestGain": _CODES // _GAIN_UNIT,
        "palette": viz.PALETTE,
    }


def _drawn(workspace: Workspace) -> list[str]:
    """The modules of the edit that the board draws; all that it edits where none of them would be drawn."""
    drawn = shown(workspace.spectra)
    return [name for name in workspace.edit.modules if name in drawn] or list(workspace.edit.modules)


def _knob(knob: Knob, plan: EditPlan, rank: int) -> dict[str, Any]:
    kind = "choice" if knob.choices else "bool" if knob.kind is bool else "range" if knob.slides else "number"
    values, high = {**knob_values(plan.policy), STRENGTH.name: plan.strength}, knob.high
    if knob.components:
        high = max(rank if high is None else min(rank, high), values[knob.name])
    return {
        "name": knob.name,
        "label": knob.name.replace("_", " "),
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


def _table(workspace: Workspace, knob: str, key: str) -> dict[str, Any]:
    """The knob's table as the component reads it; the last few are kept, because knobs are tried in turn."""
    tables: dict[str, dict[str, Any]] = st.session_state.setdefault("board-tables", {})
    if key not in tables:
        for old in list(tables)[: len(tables) - _TABLES + 1]:
            del tables[old]
        table = knob_table(workspace.spectra, workspace.plan, knob, workspace.sensitivity)
        tables[key] = _packed(replace(table, gains=table.gains[:, _places(workspace)]), key)
    return tables[key]


def _places(workspace: Workspace) -> ndarray:
    """Where the components that the board draws stand among all of the edit."""
    drawn = set(_drawn(workspace))
    return np.concatenate(
        [np.full(module.gains.size, name in drawn) for name, module in workspace.edit.modules.items()]
    )


def _packed(table: KnobTable, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "knob": table.knob,
        "every": table.stride,
        "unit": _GAIN_UNIT,
        "gains": _codes(table.gains),
        "numbers": [_numbers(numbers) if numbers else None for numbers in table.numbers],
        "expectations": [expectation_record(expectation) for expectation in table.expectations],
    }


def _table_keys(workspace: Workspace) -> dict[str, str]:
    """What the table of each sliding knob depends on: everything but the knob's own value."""
    record = edit_record(workspace.plan)
    knobs = {**record.pop("knobs"), STRENGTH.name: record.pop(STRENGTH.name, STRENGTH.default)}
    measured = workspace.measured_key
    common = digest([repr(record), workspace.adapter.digest, measured, *shown(workspace.spectra)])
    return {
        knob.name: digest([common, knob.name, repr({k: v for k, v in knobs.items() if k != knob.name})])[:16]
        for knob in (STRENGTH, *knobs_of(workspace.plan.policy))
        if knob.slides
    }


def _numbers(numbers: Preview) -> dict[str, Any]:
    camel = {
        "standard_error": "standardError",
        "nuclear_norm_ratio": "nuclearNormRatio",
        "nuclear_norm_moved": "nuclearNormMoved",
        "functional_energy_ratio": "functionalEnergyRatio",
    }
    return {
        camel.get(name, name): value if math.isfinite(value) else None for name, value in asdict(numbers).items()
    }


def _skipped(edit: Edit) -> str:
    reasons = edit.skipped
    if not reasons:
        return ""
    return f"{len(reasons)} of {len(edit.modules)} modules were left alone: {'; '.join(sorted(set(reasons.values())))}."


def _raised(edit: Edit, energy: str) -> str:
    """What is said where an energy rule makes the largest value of a module half as large again or more."""
    found = largest_values(edit)
    if energy == "none" or found is None or found.most < _RAISED:
        return ""
    text = largest_text(found, energy)
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


def _codes(gains: ndarray) -> str:
    """Gains as whole numbers, cut at 16: fine enough to draw, half the size of a float."""
    codes = np.clip(np.rint(np.nan_to_num(gains, nan=1.0) * _GAIN_UNIT), 0, _CODES - 1)
    return base64.b64encode(codes.astype("<u2").tobytes()).decode()
