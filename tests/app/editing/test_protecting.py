"""The panel of protected slices: both expectations, the tick, and a point of the front that becomes the plan."""

from dataclasses import replace

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.state.workspace import Workspace
from surgery.data import CalibrationPlan
from surgery.edits import EditPlan, expected_beside
from surgery.experiments import BOUNDS
from surgery.model import BaseChoice
from surgery.policies import GradDirection, Protected
from tests.app.conftest import SIGMA, workspace_of


def page() -> None:
    from app.editing.protecting import protect_panel
    from app.frame import show_error
    from app.state.workspace import current
    from surgery.errors import SurgeryError

    try:
        protect_panel(current())
    except SurgeryError as error:
        show_error(error)


@pytest.fixture
def workspace() -> Workspace:
    found = workspace_of(SIGMA, examples=24)
    beside = workspace_of(SIGMA, examples=20).sensitivity
    counts = {"answer_tokens": np.full(24, 3)}
    own = replace(
        found,
        calibration=CalibrationPlan("own.jsonl", 24),
        base=BaseChoice("base"),
        sensitivity=replace(found.sensitivity, **counts),
    )
    other = replace(beside, answer_tokens=np.full(20, 3))
    return own.with_protected(CalibrationPlan("other.jsonl", 20), other)


def opened(workspace: Workspace) -> AppTest:
    test = AppTest.from_function(page, default_timeout=60)
    test.session_state["workspace"] = workspace
    test.run()
    assert not test.exception
    return test


def test_without_a_protected_slice_the_way_to_one_is_told(small):
    assert "Spectra page" in opened(small).caption[0].value


def test_both_expectations_stand_side_by_side(workspace):
    test = opened(workspace)
    (expectation,) = expected_beside(workspace.plan, workspace.spectra, workspace.sensitivity)
    labels = [metric.label.replace("\\", "") for metric in test.metric]
    assert labels == ["Expected, own slice", "Protected, expected: other.jsonl"]
    assert test.metric[1].value == f"{expectation.mean:+.4f}"


def test_the_tick_spares_the_slice_and_is_a_step_of_the_history(workspace):
    test = opened(workspace.with_edit("start", policy=GradDirection(), energy="none"))
    test.checkbox[0].check().run()
    now: Workspace = test.session_state["workspace"]
    assert now.plan.protect
    beside = now.sensitivity.protected[0]
    slope = sum(
        beside.values[name].mean(axis=0) @ (module.sigma_after - module.sigma)
        for name, module in now.edit.modules.items()
    )
    assert slope <= 1e-12
    test.checkbox[0].uncheck().run()
    assert not test.session_state["workspace"].plan.protect


def test_a_point_of_the_front_becomes_the_plan(workspace):
    test = opened(workspace)
    point = next(box for box in test.selectbox if box.label == "Point of the front")
    point.select("μ 5").run()
    next(button for button in test.button if button.label == "Take this point").click().run()
    assert test.session_state["workspace"].plan == EditPlan(Protected(mu=5.0))
    assert "μ 5" in test.session_state["workspace"].history.steps[-1].label


def test_a_point_of_the_front_along_the_bound_becomes_the_plan(workspace):
    test = opened(workspace)
    next(each for each in test.get("button_group") if each.label == "Front along").set_value("ε").run()
    assert not test.exception
    point = next(box for box in test.selectbox if box.label == "Point of the front")
    assert point.options == [f"ε {bound:g}" for bound in BOUNDS]
    point.select("ε 0.002").run()
    next(button for button in test.button if button.label == "Take this point").click().run()
    now: Workspace = test.session_state["workspace"]
    assert now.plan == EditPlan(Protected(mu=0.0, limited=True, limit=0.002))
    assert next(box for box in test.selectbox if box.label == "Point of the front").value == "ε 0.002"


def test_where_the_answer_tokens_are_not_known_there_is_no_bound_and_it_is_said(workspace):
    (beside,) = workspace.sensitivity.protected
    blind = replace(workspace.sensitivity, protected=(replace(beside, answer_tokens=None),))
    own = workspace.with_edit("other", policy=Protected(eta=0.15))  # no front that another test had drawn
    test = opened(replace(own, sensitivity=blind))
    next(each for each in test.get("button_group") if each.label == "Front along").set_value("ε").run()
    assert not test.exception
    assert "counts its answer tokens" in test.error[0].value


def test_slices_are_kept_beside_another_target_and_let_go_one_by_one(workspace):
    (plan,) = workspace.protected
    more = workspace.with_protected(CalibrationPlan("third.jsonl"), workspace.sensitivity.protected[0])
    assert more.with_protected(plan, workspace.sensitivity.protected[0]) is more
    other = more.with_sensitivity(CalibrationPlan("new.jsonl"), workspace_of(SIGMA, 9).sensitivity)
    assert [each.examples for each in other.sensitivity.protected] == [20, 20]
    left = other.without_protected(plan)
    assert left.protected == (CalibrationPlan("third.jsonl"),)
    assert len(left.sensitivity.protected) == 1
    assert left.measured_key != other.measured_key
    assert other.with_base(None).protected == ()
