"""The Surgery page on a made-up workspace."""

import base64
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from app import editing as board
from app.editing.knob_tables import packed, table_keys
from app.state import jobs
from app.state.workspace import Workspace, workspace_for
from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan
from surgery.edits import knob_table
from surgery.model import BaseChoice
from surgery.policies import Scale
from surgery.spectra import decompose
from tests.app.conftest import SIGMA, workspace_of
from tests.helpers.models import save_adapter, save_model, tiny_llama
from tests.helpers.policies import measured

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


SHAPES = {
    f"model.layers.{i}.{name}": (12, 4, 9) for i in range(2) for name in ("mlp.down_proj", "self_attn.o_proj")
}


@pytest.fixture
def cut_workspace(lora_tensors: Callable[..., dict], write_adapter: Callable[..., Path]) -> Workspace:
    tensors = {
        key: tensor * (0.1 if ".1." in key and "lora_B" in key else 1)
        for key, tensor in lora_tensors(SHAPES).items()
    }
    adapter = open_adapter(write_adapter(tensors, r=4, lora_alpha=8))
    spectra = decompose(adapter)
    rng = np.random.default_rng(4)
    sensitivity = measured({name: rng.normal(size=(6, each.rank)) for name, each in spectra.items()})
    plain = Workspace(adapter, spectra, sensitivity=sensitivity)
    return plain.with_edit("all", scope="all")


@pytest.fixture(scope="session")
def sums_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sums")
    save_model(tiny_llama(), folder / "base")
    save_adapter(tiny_llama(), folder / "adapter")
    for name, sign in (("rows", "+"), ("other", "-")):
        rows = [json.dumps({"prompt": f"{a}{sign}{b}=", "answer": str(a * b)}) for a in range(5) for b in range(5)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture
def sums_workspace(sums_files: Path) -> Workspace:
    opened = workspace_for(str(sums_files / "adapter")).with_edit(
        "scale", policy=Scale(0.9), energy="none", scope="all"
    )
    opened = opened.with_base(BaseChoice(str(sums_files / "base")))
    calibration = CalibrationPlan(str(sums_files / "rows.jsonl"), examples=8)
    return type(opened)(**{**vars(opened), "calibration": calibration})


def press(test: AppTest, label: str) -> AppTest:
    """The page once the job that a button starts has ended."""
    next(button for button in test.button if button.label == label).click().run()
    limit = time.monotonic() + 60
    while jobs.jobs().claims(test.session_state["workspace-id"]) and time.monotonic() < limit:
        time.sleep(0.1)
        test.run()
    assert not test.exception
    assert not test.error
    return test
