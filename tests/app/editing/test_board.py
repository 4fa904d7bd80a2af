"""The board tells the browser what the edit is, and believes nothing of what the browser sends back."""

import base64
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app import editing as board
from app.editing.acts import applied
from app.state import saved as sessions
from app.state.workspace import Workspace
from surgery.edits import EditPlan, edit_record, end_to_end, knob_table, make_edit, parse_edit, preview
from surgery.errors import PolicyError, SurgeryError
from surgery.policies import (
    POLICIES,
    AbsSelect,
    GradDirection,
    RandomIndex,
    Scale,
    knob_values,
    knobs_of,
    make_policy,
)
from tests.app.conftest import D0, O0, O1, Q0, SIGMA, workspace_of
from tests.helpers.painting import painted
from tests.helpers.policies import measured
from viz.style import HARMFUL, HELPFUL

UNMEASURED = replace(workspace_of(SIGMA), sensitivity=None)
SMALL = workspace_of(SIGMA)


def shown(workspace: Workspace, knob: str | None = None) -> dict[str, Any]:
    """What the browser gets, through strict JSON."""
    keys = board._table_keys(workspace)
    table = None
    if knob is not None:
        table = board._packed(
            knob_table(workspace.spectra, workspace.plan, knob, workspace.sensitivity), keys[knob]
        )
    data = board._data(workspace, 7, table, keys)
    return json.loads(json.dumps(data, allow_nan=False))


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def gains(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<u2") / 4096


def with_plan(workspace: Workspace, **changes: Any) -> Workspace:
    return workspace.with_edit("test", **changes)


# ---- what the browser is told ----


@pytest.mark.parametrize(
    ("name", "measured_"),
    [(name, True) for name in POLICIES]
    + [(name, False) for name, kind in POLICIES.items() if not kind().needs_gradient],
)
def test_the_data_of_every_policy_is_strict_json_and_decodes_to_the_edit(name: str, measured_: bool) -> None:
    policy = make_policy(name)
    for scope, energy in (("residual", "l1"), ("all", "none"), ("o_proj", "l2")):
        workspace = with_plan(SMALL if measured_ else UNMEASURED, policy=policy, scope=scope, energy=energy)
        data, edit = shown(workspace), workspace.edit
        expected = np.concatenate([module.gains for module in edit.modules.values()])
        np.testing.assert_allclose(floats(data["gains"]), expected, rtol=1e-6)
        sigma = [value for module in edit.modules for value in SIGMA[module]]
        np.testing.assert_allclose(floats(data["sigma"]), sigma, rtol=1e-6)
        assert floats(data["position"]).size == len(sigma)
        assert floats(data["mean"]).size == (len(sigma) if measured_ else 0)
        assert [module["name"] for module in data["modules"]] == list(edit.modules)
        for module in data["modules"]:
            start, rank = module["start"], module["rank"]
            assert floats(data["sigma"])[start : start + rank].tolist() == pytest.approx(SIGMA[module["name"]])
        assert data["scalars"] == len(sigma)
        assert (data["policy"], data["scope"], data["energy"]) == (name, scope, energy)
        assert {knob["name"]: knob["value"] for knob in data["knobs"]} == knob_values(policy)
        assert data["positionRange"][0] <= data["positionRange"][1]
        numbers = preview(edit, workspace.sensitivity)
        if numbers is None:
            assert data["numbers"]["predicted"] is None
        else:
            assert data["numbers"]["predicted"] == pytest.approx(numbers.predicted)
            assert data["numbers"]["standardError"] == pytest.approx(numbers.standard_error)


def test_positions_and_sensitivities_follow_the_order_of_the_modules() -> None:
    workspace = with_plan(SMALL, policy=GradDirection(), scope="all")
    data = shown(workspace)
    for module in data["modules"]:
        g = SMALL.sensitivity.values[module["name"]].mean(axis=0)
        at = slice(module["start"], module["start"] + module["rank"])
        np.testing.assert_allclose(floats(data["mean"])[at], g, rtol=1e-5, atol=1e-9)
        np.testing.assert_allclose(floats(data["position"])[at], g / np.abs(g).mean(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["grad_direction", "abs_select", "z_score"])
def test_a_measurement_that_is_not_finite_breaks_no_data(bad: float, name: str) -> None:
    values = {module: g.copy() for module, g in SMALL.sensitivity.values.items()}
    values[O1][0, 1] = bad
    workspace = with_plan(replace(SMALL, sensitivity=measured(values)), policy=make_policy(name))
    data = shown(workspace)
    assert np.isfinite(floats(data["gains"])).all()
    assert "no gradient" in data["skipped"]


def test_one_calibration_example_has_no_error_and_breaks_no_data() -> None:
    one = workspace_of(SIGMA, examples=1)
    assert shown(one)["numbers"]["standardError"] is None


def test_a_very_large_gain_is_told_as_it_is_and_cut_in_a_table_only() -> None:
    workspace = with_plan(SMALL, policy=Scale(1.0), energy="none", manual={O0: {0: 1e5, 1: 0.0}})
    data = shown(workspace, "gamma")
    assert floats(data["gains"])[:2].tolist() == [1e5, 0.0]
    assert gains(data["table"]["gains"])[:2].tolist() == [65535 / 4096, 0.0]


def test_gains_by_hand_and_idle_knobs_are_marked() -> None:
    workspace = with_plan(SMALL, policy=GradDirection(asymmetric=False), manual={O0: {1: 0.5}})
    data = shown(workspace)
    assert data["manual"] == {O0: {"1": 0.5}}
    idle = {knob["name"]: knob["idle"] for knob in data["knobs"]}
    assert idle == {"asymmetric": False, "eta_suppress": True, "eta_enhance": True, "power": True, "eta": False}


@pytest.mark.parametrize(
    ("name", "knob"),
    [("grad_direction", "eta_suppress"), ("abs_select", "amp"), ("smooth_abs", "sup"), ("truncate", "keep"),
     ("scale", "gamma"), ("random_index", "core_frac"), ("robust_z", "softness")],
)  # fmt: skip
def test_table_rows_are_the_edits_at_their_values(name: str, knob: str) -> None:
    workspace = with_plan(SMALL, policy=make_policy(name), energy="none", manual={O0: {3: 0.25}})
    data, found = shown(workspace, knob), {each.name: each for each in knobs_of(POLICIES[name])}[knob]
    table = data["table"]
    assert (table["knob"], table["key"]) == (knob, data["tableKeys"][knob])
    rows = gains(table["gains"]).reshape(len(table["numbers"]), -1)
    for step, (row, numbers) in enumerate(zip(rows, table["numbers"], strict=True)):
        value = round(found.low + step * found.step, 9)
        try:
            policy = make_policy(name, {knob: value})
            edit = make_edit(
                SMALL.spectra, policy, sensitivity=SMALL.sensitivity, energy="none", manual={O0: {3: 0.25}}
            )
        except PolicyError:
            assert numbers is None
            continue
        expected = np.concatenate([module.gains for module in edit.modules.values()])
        np.testing.assert_allclose(row, np.minimum(expected, 65535 / 4096), atol=1 / 8192, rtol=0)
        assert numbers["predicted"] == pytest.approx(preview(edit, SMALL.sensitivity).predicted)


@pytest.mark.parametrize("value", [0.5, 0.9])
def test_the_page_shows_under_a_dragged_knob_the_edit_of_its_value(value: float) -> None:
    workspace = with_plan(SMALL, policy=make_policy("smooth_abs"), energy="none")
    told = painted("board", shown(workspace, "sup"), drag={"knob": "sup", "value": value})
    edit = with_plan(workspace, policy=make_policy("smooth_abs", {"sup": value})).edit
    np.testing.assert_allclose(told["gains"], end_to_end(edit), atol=1 / 8192, rtol=0)
    assert told["numbers"]["predicted"] == pytest.approx(preview(edit, SMALL.sensitivity).predicted)


def test_the_page_shows_the_edit_there_is_under_a_knob_at_a_value_that_the_policy_refuses() -> None:
    workspace = with_plan(SMALL, policy=make_policy("smooth_abs"), energy="none")
    data = shown(workspace, "sup")
    assert None in data["table"]["numbers"]
    told, there = painted("board", data, drag={"knob": "sup", "value": 1.5}), painted("board", data)
    assert told == there
    np.testing.assert_allclose(told["gains"], end_to_end(workspace.edit), rtol=1e-6)
    assert told["numbers"] == data["numbers"]


def test_the_page_marks_in_red_what_raises_the_loss_and_in_teal_what_lowers_it() -> None:
    noise = np.resize([0.01, -0.01], (6, 1))
    values = {**SMALL.sensitivity.values, O0: noise + np.array([0.5, -0.5, 0.0, 0.25])}
    told = painted("board", shown(replace(SMALL, sensitivity=measured(values))))
    marks = [call for call in told["bars"] if call["kind"] == "rect" and call["fill"] in (HARMFUL, HELPFUL)]
    assert [call["fill"] for call in marks] == [HARMFUL, HELPFUL, HARMFUL]
    assert [call["height"] > 0 for call in marks] == [True, False, True]  # downwards, upwards


def test_a_tables_key_is_independent_of_the_knobs_own_value_and_dependent_on_all_else() -> None:
    policy = AbsSelect()
    plan = {"policy": policy, "scope": "o_proj", "energy": "l2", "sigma_min": 0.1, "manual": {O0: {0: 1.5}}}
    start = with_plan(SMALL, **plan)
    keys = board._table_keys(start)
    assert set(keys) == {knob.name for knob in knobs_of(policy) if knob.slides}
    assert len(set(keys.values())) == len(keys)
    key = board._table_keys(start)["amp"]
    assert board._table_keys(with_plan(start, policy=AbsSelect(amp=3.0)))["amp"] == key
    other = measured({name: g + 1 for name, g in SMALL.sensitivity.values.items()})
    other = replace(other, provenance=replace(other.provenance, examples="others"))
    changed = [
        with_plan(start, policy=AbsSelect(sup=0.5)),
        with_plan(start, policy=AbsSelect(norm="l2")),
        with_plan(start, policy=RandomIndex()),
        with_plan(start, scope="all"),
        with_plan(start, energy="l1"),
        with_plan(start, sigma_min=0.2),
        with_plan(start, manual={O0: {0: 1.25}}),
        with_plan(start, manual={O0: {1: 1.5}}),
        with_plan(start, manual={O1: {0: 1.5}}),
        with_plan(start, manual={}),
        replace(start, adapter=type(start.adapter)(**{**vars(start.adapter), "digest": "e" * 64})),
        replace(start, sensitivity=None),
        replace(start, sensitivity=other),
    ]
    found = [board._table_keys(workspace)["amp"] for workspace in changed]
    assert len({key, *found}) == len(changed) + 1


# ---- what the browser does ----


def acted(workspace: Workspace, **act: Any) -> EditPlan:
    return applied(workspace, act).plan


def test_each_act_changes_its_part_of_the_plan_and_no_other() -> None:
    plan = SMALL.plan
    assert acted(SMALL, type="policy", value="abs_select") == replace(plan, policy=AbsSelect())
    assert acted(SMALL, type="knob", knob="eta_suppress", value=1) == replace(
        plan, policy=GradDirection(eta_suppress=1.0)
    )
    assert acted(SMALL, type="knob", knob="asymmetric", value=False) == replace(
        plan, policy=GradDirection(asymmetric=False)
    )
    assert acted(SMALL, type="energy", value="none") == replace(plan, energy="none")
    assert acted(SMALL, type="sigma_min", value=0.5) == replace(plan, sigma_min=0.5)
    by_hand = with_plan(SMALL, manual={O0: {0: 2.0}, D0: {1: 0.5}})
    assert acted(by_hand, type="forget") == plan
    assert acted(by_hand, type="manual", module=O0, gains={"0": None}) == replace(plan, manual={D0: {1: 0.5}})


def test_a_pulled_bar_ends_where_it_was_left() -> None:
    plan = acted(SMALL, type="manual", module=O0, gains={"0": 0.5, "2": 0})
    after = plan.apply(SMALL.spectra, SMALL.sensitivity).modules[O0].sigma_after
    assert after[0] == pytest.approx(2.0)
    assert after[2] == 0
    assert after.sum() == pytest.approx(10.0)


def test_a_locked_component_keeps_its_gain_under_the_next_policy() -> None:
    free = with_plan(SMALL, energy="none")
    before = free.edit.modules[O0].gains[1]
    locked = applied(free, {"type": "manual", "module": O0, "gains": {"1": "lock"}})
    later = applied(locked, {"type": "policy", "value": "truncate"})
    assert later.edit.modules[O0].gains[1] == pytest.approx(before)


def test_each_act_is_one_step_with_a_name_and_can_be_undone() -> None:
    workspace = SMALL
    acts = [
        {"type": "policy", "value": "abs_select"},
        {"type": "knob", "knob": "amp", "value": 1.5},
        {"type": "manual", "module": O0, "gains": {"0": 0.5}},
        {"type": "manual", "module": O0, "gains": {"1": "lock"}},
        {"type": "energy", "value": "l2"},
        {"type": "sigma_min", "value": 0.25},
        {"type": "manual", "module": O0, "gains": {"0": None}},
        {"type": "forget"},
    ]
    for count, act in enumerate(acts, 1):
        workspace = applied(workspace, act)
        assert len(workspace.history.steps) == count + 1
        assert workspace.history.steps[-1].label
    assert workspace.history.jump(0).present == SMALL.plan


def test_the_same_policy_again_keeps_its_knobs_and_records_nothing() -> None:
    tuned = applied(SMALL, {"type": "knob", "knob": "eta", "value": 0.7})
    assert applied(tuned, {"type": "policy", "value": "grad_direction"}) == tuned


def test_a_slid_value_has_no_rounding_noise() -> None:
    assert acted(SMALL, type="knob", knob="eta_suppress", value=0.1 + 0.2).policy.eta_suppress == 0.3


def test_a_policy_that_waits_for_a_calibration_is_let_through() -> None:
    assert acted(UNMEASURED, type="policy", value="abs_select").policy == AbsSelect()
    assert acted(UNMEASURED, type="energy", value="l2").energy == "l2"
    with pytest.raises(PolicyError, match="sensitivities"):
        acted(UNMEASURED, type="manual", module=O0, gains={"0": 0.5})


def refused(workspace: Workspace, act: dict[str, Any]) -> str:
    with pytest.raises(SurgeryError) as caught:
        applied(workspace, act)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("act", "word"),
    [
        ({}, "None"),
        ({"type": None}, "None"),
        ({"type": ["policy"]}, "policy"),
        ({"type": "delete"}, "delete"),
        ({"type": "policy"}, "None"),
        ({"type": "policy", "value": {"a": 1}}, "policy"),
        ({"type": "policy", "value": "os\nremove"}, "policy"),
        ({"type": "knob"}, "None"),
        ({"type": "knob", "knob": "eta_suppress"}, "None"),
        ({"type": "knob", "knob": "eta_suppress", "value": True}, "True"),
        ({"type": "knob", "knob": "eta_suppress", "value": math.nan}, "nan"),
        ({"type": "knob", "knob": "eta_suppress", "value": math.inf}, "inf"),
        ({"type": "knob", "knob": "eta_suppress", "value": 10**400}, "eta_suppress"),
        ({"type": "knob", "knob": "eta_suppress", "value": "1"}, "eta_suppress"),
        ({"type": "knob", "knob": "eta_suppress", "value": [1]}, "eta_suppress"),
        ({"type": "knob", "knob": "amp", "value": 1.0}, "amp"),
        ({"type": "energy"}, "None"),
        ({"type": "energy", "value": "l3"}, "l3"),
        ({"type": "sigma_min", "value": -1}, "-1"),
        ({"type": "sigma_min", "value": math.nan}, "nan"),
        ({"type": "sigma_min", "value": "0"}, "0"),
        ({"type": "sigma_min", "value": False}, "False"),
        ({"type": "sigma_min", "value": 10**400}, "number"),
        ({"type": "manual"}, "None"),
        ({"type": "manual", "module": O0}, "module"),
        ({"type": "manual", "module": O0, "gains": {}}, "module"),
        ({"type": "manual", "module": O0, "gains": [0.5]}, "module"),
        ({"type": "manual", "module": "x", "gains": {"0": 1}}, "'x'"),
        ({"type": "manual", "module": [O0], "gains": {"0": 1}}, "module"),
        ({"type": "manual", "module": Q0, "gains": {"0": 1}}, "scope"),
        ({"type": "manual", "module": Q0, "gains": {"0": "lock"}}, "scope"),
        ({"type": "manual", "module": O0, "gains": {"-1": 1}}, "-1"),
        ({"type": "manual", "module": O0, "gains": {"4": 1}}, "0 to 3"),
        ({"type": "manual", "module": O0, "gains": {"0.5": 1}}, "0.5"),
        ({"type": "manual", "module": O0, "gains": {"": 1}}, "component"),
        ({"type": "manual", "module": O0, "gains": {"²": 1}}, "component"),
        ({"type": "manual", "module": O0, "gains": {"9" * 5000: 1}}, "component"),
        ({"type": "manual", "module": O0, "gains": {"0": -0.5}}, "-0.5"),
        ({"type": "manual", "module": O0, "gains": {"0": math.nan}}, "nan"),
        ({"type": "manual", "module": O0, "gains": {"0": math.inf}}, "inf"),
        ({"type": "manual", "module": O0, "gains": {"0": True}}, "True"),
        ({"type": "manual", "module": O0, "gains": {"0": "1"}}, "1"),
        ({"type": "manual", "module": O0, "gains": {"0": 1, "1": None}}, "None"),
        ({"type": "manual", "module": O0, "gains": {"0": 1, "1": "lock"}}, "lock"),
        ({"type": "manual", "module": O0, "gains": {"0": 100}}, "energy"),
    ],
    ids=lambda value: str(value)[-60:],
)  # fmt: skip
def test_an_act_that_makes_no_sense_is_refused_in_one_line(act: dict[str, Any], word: str) -> None:
    assert word in refused(SMALL, act)


def test_a_refused_order_of_gates_is_not_recorded() -> None:
    smooth = applied(SMALL, {"type": "policy", "value": "smooth_abs"})
    assert "align_mid" in refused(smooth, {"type": "knob", "knob": "sup", "value": 1.5})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
types = st.sampled_from(["policy", "knob", "energy", "sigma_min", "manual", "forget"])
numbers = (
    st.floats() | st.integers() | st.floats(0, 4) | st.sampled_from([None, "lock", True, 10**400, 1e308, 5e-324])
)
components = st.sampled_from(["0", "1", "2", "3", "00", "-1", "1.5", "１", "x"]) | st.text(max_size=3)
acts = st.fixed_dictionaries(
    {},
    optional={
        "type": types | anything,
        "value": st.sampled_from([*POLICIES, "l1", "l2", "none"]) | numbers | anything,
        "knob": st.sampled_from([knob.name for kind in POLICIES.values() for knob in knobs_of(kind)]) | anything,
        "module": st.sampled_from(list(SIGMA)) | anything,
        "gains": st.dictionaries(components, numbers | anything, max_size=4) | anything,
    },
)


@given(st.lists(acts, max_size=8), st.booleans())
@example([{"type": "energy", "value": "none"}, {"type": "manual", "module": O0, "gains": {"0": 1e6}}], True)
@example([{"type": "sigma_min", "value": 1e6}, {"type": "manual", "module": O0, "gains": {"0": 5e-324}}], True)
def test_no_act_of_a_hostile_browser_breaks_the_workspace(sent: list[dict[str, Any]], calibrated: bool) -> None:
    workspace, refusals = SMALL if calibrated else UNMEASURED, []
    for act in sent:
        try:
            workspace = applied(workspace, act)
        except SurgeryError as error:
            refusals.append(str(error))
    assert all(len(text.splitlines()) == 1 for text in refusals)
    if not workspace.lacks_sensitivities:
        shown(workspace)
    for step in workspace.history.steps:
        record = json.loads(json.dumps(edit_record(step.plan), allow_nan=False))
        assert sessions._edit(record) == step.plan
        assert step.label


@given(module=st.sampled_from([O0, D0, O1]), data=st.data())
def test_pulls_in_any_order_leave_a_plan_that_can_be_read_again(module: str, data: st.DataObject) -> None:
    workspace = SMALL
    for _ in range(data.draw(st.integers(1, 5))):
        pulled = data.draw(
            st.dictionaries(st.integers(0, len(SIGMA[module]) - 1).map(str), st.floats(0, 6), min_size=1)
        )
        try:
            workspace = applied(workspace, {"type": "manual", "module": module, "gains": pulled})
        except SurgeryError:
            continue
    assert parse_edit(edit_record(workspace.plan)) == workspace.plan
    found = workspace.edit.modules[module]
    assert np.isfinite(found.sigma_after).all()
    assert found.sigma_after.sum() == pytest.approx(sum(SIGMA[module]))
