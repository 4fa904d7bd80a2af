"""The Surgery page on a made-up workspace."""

import base64
import json
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from app import editing as board
from app.editing.knob_tables import packed, table_keys
from app.state.workspace import Workspace
from surgery.edits import knob_table
from tests.app.conftest import SIGMA, workspace_of

UNMEASURED = replace(workspace_of(SIGMA), sensitivity=None)
SMALL = workspace_of(SIGMA)


def with_a_slope(workspace: Workspace) -> Workspace:
    """With sensitivities whose means are no noise, and the tokens of the answers counted."""
    found, rng = workspace.sensitivity, np.random.default_rng(6)
    assert found is not None
    values = {name: g + rng.normal(0, 0.01, g.shape[1]) for name, g in found.values.items()}
    return replace(
        workspace, sensitivity=replace(found, values=values, answer_tokens=rng.integers(1, 6, found.examples))
    )


LONGER = with_a_slope(workspace_of(SIGMA, examples=64))


def shown(workspace: Workspace, knob: str | None = None) -> dict[str, Any]:
    """What the browser gets, through strict JSON."""
    keys = table_keys(workspace)
    table = None
    if knob is not None:
        table = packed(knob_table(workspace.spectra, workspace.plan, knob, workspace.sensitivity), keys[knob])
    data = board._data(workspace, 7, table, keys)
    return json.loads(json.dumps(data, allow_nan=False))


def gains(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<u2") / 4096


def with_plan(workspace: Workspace, **changes: Any) -> Workspace:
    return workspace.with_edit("test", **changes)


numbers = (
    st.floats() | st.integers() | st.floats(0, 4) | st.sampled_from([None, "lock", True, 10**400, 1e308, 5e-324])
)
