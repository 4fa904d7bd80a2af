"""The headroom below the board: trained by one button on a real tiny model, found again, and taken as the edit."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.editing.headroom import share_text
from app.state import jobs
from app.state.workspace import Workspace, workspace_for
from surgery.data import CalibrationPlan
from surgery.evaluation import Effect
from surgery.experiments import Headroom
from surgery.model import BaseChoice, attach
from surgery.sensitivity import calibrate
from tests.helpers.models import save_adapter, save_model, tiny_llama


def page() -> None:
    import streamlit as st

    from app.editing.headroom import headroom_panel
    from app.state import jobs
    from app.state.workspace import current

    for job in jobs.collect_finished():
        if job.error:
            st.error(job.error)
    headroom_panel(current())


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    save_model(tiny_llama(), tmp_path / "base")
    save_adapter(tiny_llama(), tmp_path / "adapter")
    rows = [json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) for a in range(4) for b in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    base, plan = BaseChoice(str(tmp_path / "base")), CalibrationPlan(str(tmp_path / "rows.jsonl"), examples=8)
    opened = workspace_for(str(tmp_path / "adapter")).with_base(base)
    with attach(opened.adapter, opened.spectra, base) as live:
        return opened.with_sensitivity(plan, calibrate(live, plan, base=base))


def opened(workspace: Workspace) -> AppTest:
    test = AppTest.from_function(page, default_timeout=60)
    test.session_state["workspace"] = workspace
    test.session_state["headroom-open"] = True
    test.run()
    assert not test.exception
    return test


def finished(test: AppTest) -> AppTest:
    limit = time.monotonic() + 60
    while jobs.jobs().claims(test.session_state["job-owner"]) and time.monotonic() < limit:
        time.sleep(0.1)
        test.run()
    assert not test.exception
    assert not test.error
    return test


def test_what_training_finds_stands_beside_the_expectation_and_another_session_finds_it_again(
    workspace: Workspace,
) -> None:
    test = opened(workspace)
    assert not test.metric
    test.number_input[0].set_value(2).run()
    next(button for button in test.button if button.label == "Train σ").click().run()
    finished(test)
    found: Headroom = test.session_state["bench-headroom"].value
    told = {metric.label: metric.value for metric in test.metric}
    assert told["Headroom, tuning rows"] == f"{found.change.mean:+.4f} ± {found.change.standard_error:.4f}"
    assert told["Of the headroom, this edit"] == share_text(found, workspace.expectation.mean)
    assert test.session_state["workspace"].tuning is not None, "no proof may use these rows from now on"
    again = opened(workspace)
    assert {metric.label: metric.value for metric in again.metric} == told
    next(button for button in again.button if "as the edit" in button.label).click().run()
    now: Workspace = again.session_state["workspace"]
    assert now.plan == found.plan
    assert now.history.steps[-1].label == f"headroom, epoch {found.epoch}"
    elsewhere = opened(workspace.with_edit("scope", scope="all"))
    assert not elsewhere.metric, "it was trained in another scope"


def test_before_a_calibration_the_way_to_one_is_told(small: Workspace) -> None:
    test = opened(replace(small, sensitivity=None))
    assert "Calibrate first" in test.caption[0].value
    assert not test.button


@pytest.mark.parametrize(
    ("change", "expected", "told"),
    [
        (Effect(-0.2, 0.01, -0.22, -0.18), -0.1, "50%"),
        (Effect(-0.2, 0.01, -0.22, -0.18), 0.05, "-25%"),
        (Effect(-0.2, 0.01, -0.22, -0.18), None, "not known"),
        (Effect(-0.2, 0.2, -0.6, 0.2), -0.1, "no headroom beyond noise"),
        (Effect(0.0, 0.0, 0.0, 0.0), -0.1, "no headroom beyond noise"),
    ],
)
def test_a_share_is_told_only_of_a_headroom_that_is_there(
    change: Effect, expected: float | None, told: str
) -> None:
    found = Headroom(None, None, 1, (), (), change, 0.0)  # type: ignore[arg-type]
    assert share_text(found, expected) == told
