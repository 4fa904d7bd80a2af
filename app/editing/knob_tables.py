"""The table of a knob's steps as the board reads it while that knob is dragged, and the preview's numbers in it."""

import base64
import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import streamlit as st
from numpy import ndarray

from app.editing.expecting import expectation_record
from app.experts import shown
from app.state.workspace import Workspace
from surgery.adapter import in_scope
from surgery.edits import STRENGTH, KnobTable, Preview, edit_record, group_knobs, group_value, knob_table
from surgery.files import digest
from surgery.policies import Knob, knobs_of

_GAIN_UNIT = 4096  # a table's gains travel as whole numbers of 1/4096
_CODES = 2**16
_TABLES = 12
LARGEST_DRAWN = _CODES // _GAIN_UNIT


def table_of(workspace: Workspace, knob: str, key: str) -> dict[str, Any]:
    """The knob's table as the component reads it; the last few are kept, because knobs are tried in turn."""
    tables: dict[str, dict[str, Any]] = st.session_state.setdefault("board-tables", {})
    if key not in tables:
        for old in list(tables)[: len(tables) - _TABLES + 1]:
            del tables[old]
        table = knob_table(workspace.spectra, workspace.plan, knob, workspace.sensitivity)
        tables[key] = packed(replace(table, gains=table.gains[:, _places(workspace)]), key)
    return tables[key]


def _places(workspace: Workspace) -> ndarray:
    """Where the components that the board draws stand among all of the edit."""
    kept = set(drawn(workspace))
    return np.concatenate(
        [np.full(module.gains.size, name in kept) for name, module in workspace.edit.modules.items()]
    )


def packed(table: KnobTable, key: str) -> dict[str, Any]:
    return {
        "key": key,
        "knob": table.knob,
        "every": table.stride,
        "unit": _GAIN_UNIT,
        "gains": _codes(table.gains),
        "numbers": [numbers_record(numbers) if numbers else None for numbers in table.numbers],
        "expectations": [expectation_record(expectation) for expectation in table.expectations],
    }


def table_keys(workspace: Workspace) -> dict[str, str]:
    """What the table of each sliding knob depends on: everything but the knob's own value."""
    plan, groups = workspace.plan, sliders_of_groups(workspace)
    record = edit_record(plan)
    knobs = {**record.pop("knobs"), STRENGTH.name: record.pop(STRENGTH.name, STRENGTH.default)}
    record["groups"] = plan.groups.both  # which have no slider here
    knobs |= {knob.name: group_value(plan, knob.name) for knob in groups}
    measured = workspace.measured_key
    common = digest([repr(record), workspace.adapter.digest, measured, *shown(workspace.spectra)])
    return {
        knob.name: digest([common, knob.name, repr({k: v for k, v in knobs.items() if k != knob.name})])[:16]
        for knob in (STRENGTH, *knobs_of(plan.policy), *groups)
        if knob.slides
    }


def sliders_of_groups(workspace: Workspace) -> tuple[Knob, ...]:
    """The knobs of the layer groups that the edit's modules are in."""
    return group_knobs(workspace.spectra, in_scope(workspace.spectra, workspace.plan.scope))


def drawn(workspace: Workspace) -> list[str]:
    """The modules of the edit that the board draws; all that it edits where none of them would be drawn."""
    here = shown(workspace.spectra)
    return [name for name in workspace.edit.modules if name in here] or list(workspace.edit.modules)


def numbers_record(numbers: Preview) -> dict[str, Any]:
    camel = {
        "standard_error": "standardError",
        "nuclear_norm_ratio": "nuclearNormRatio",
        "nuclear_norm_moved": "nuclearNormMoved",
        "functional_energy_ratio": "functionalEnergyRatio",
    }
    return {
        camel.get(name, name): value if math.isfinite(value) else None for name, value in asdict(numbers).items()
    }


def _codes(gains: ndarray) -> str:
    """Gains as whole numbers, cut at 16: fine enough to draw, half the size of a float."""
    codes = np.clip(np.rint(np.nan_to_num(gains, nan=1.0) * _GAIN_UNIT), 0, _CODES - 1)
    return base64.b64encode(codes.astype("<u2").tobytes()).decode()
