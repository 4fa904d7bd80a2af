"""The table of expectations below the board: closed it costs nothing, open it says what each control would do."""

from dataclasses import replace

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.editing.shape_table import QUESTIONS, shape_table
from app.state.workspace import Workspace
from surgery.evaluation import SAME_ENERGY, SAME_SUM, SHAPE_CONTROLS
from surgery.experiments import EDIT, shape_expectations
from tests.app.conftest import D0, O0, O1, workspace_of
from tests.helpers.input_moments import with_moments

SIGMA = {O0: [4.0, 3.0, 2.0, 1.0], D0: [2.0, 1.0], O1: [5.0, 1.0]}


def page() -> None:
    import streamlit as st

    from app.editing.shape_table import shape_panel

    shape_panel(st.session_state["workspace"])


@pytest.fixture
def workspace() -> Workspace:
    plain = workspace_of(SIGMA, examples=64)
    measured = replace(plain.sensitivity, answer_tokens=np.full(64, 3))
    return replace(plain, sensitivity=with_moments(measured))


def opened(workspace: Workspace, *, shown: bool = True) -> AppTest:
    test = AppTest.from_function(page, default_timeout=60)
    test.session_state["workspace"] = workspace
    test.session_state["shape-table-open"] = shown
    test.run()
    assert not test.exception
    return test


def test_the_open_table_shows_the_edit_and_every_control_with_its_band(workspace: Workspace) -> None:
    (table,) = opened(workspace).dataframe
    found = shape_expectations(workspace.plan, workspace.spectra, workspace.sensitivity, workspace.edit)
    assert list(table.value["variant"]) == [EDIT, *(name for name in SHAPE_CONTROLS if name != SAME_SUM)]
    for (_, row), each in zip(table.value.iterrows(), found.values(), strict=True):
        assert row["expected Δ loss"] == f"{each.mean:+.4f}"
        assert row["95 % band"] == f"{each.low:+.4f} … {each.high:+.4f}"
        assert (row[""] == "within noise") == (each.low <= 0 <= each.high)
    assert set(QUESTIONS) == set(found)


def test_closed_it_computes_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.editing.shape_table.shape_expectations", pytest.fail)
    assert not opened(workspace, shown=False).dataframe


def test_what_is_missing_is_said(workspace: Workspace) -> None:
    bare = replace(workspace, sensitivity=replace(workspace.sensitivity, inputs=None))
    test = opened(bare)
    assert SAME_ENERGY not in set(test.dataframe[0].value["variant"])
    assert any("Calibrate again" in caption.value for caption in test.caption)
    few = workspace_of(SIGMA, examples=3)
    test = opened(few)
    assert not test.dataframe
    assert any("3 examples are too few" in caption.value for caption in test.caption)


def test_a_number_that_is_not_known_is_said_so(workspace: Workspace) -> None:
    found = shape_expectations(workspace.plan, workspace.spectra, workspace.sensitivity)
    unknown = replace(found[EDIT], mean=float("nan"), low=float("nan"), high=float("nan"))
    (row,) = shape_table({EDIT: unknown}).to_dict("records")
    assert row["expected Δ loss"] == "not known"
    assert row[""] == ""
