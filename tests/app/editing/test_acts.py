"""What a person does on the Surgery page, as changes of the plan."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.editing import ENERGY_LABELS
from app.editing.acts import applied
from app.state.workspace import Workspace
from surgery.edits import EditPlan, LayerGroups, best_step, edit_record, parse_edit, preview, stored_edit
from surgery.errors import PolicyError, SurgeryError
from surgery.policies import (
    POLICIES,
    AbsSelect,
    GradDirection,
    knobs_of,
)
from surgery.sensitivity import InputMoments
from tests.app.conftest import D0, O0, O1, Q0, SIGMA
from tests.app.editing.conftest import LONGER, SMALL, UNMEASURED, numbers, shown, with_plan


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
    assert acted(SMALL, type="strength", value=0.5) == replace(plan, strength=0.5)
    scaled = replace(plan, groups=LayerGroups({"o_proj": 0.5}))
    assert acted(SMALL, type="group", group="family: o_proj", value=0.5) == scaled
    assert acted(
        with_plan(SMALL, groups=scaled.groups), type="group", group="third: first", value=1.25
    ) == replace(plan, groups=LayerGroups({"o_proj": 0.5}, (1.25, 1.0, 1.0)))
    assert acted(with_plan(SMALL, groups=scaled.groups), type="ungroup") == plan
    assert acted(SMALL, type="energy", value="none") == replace(plan, energy="none")
    assert acted(SMALL, type="sigma_min", value=0.5) == replace(plan, sigma_min=0.5)
    by_hand = with_plan(SMALL, manual={O0: {0: 2.0}, D0: {1: 0.5}})
    assert acted(by_hand, type="forget") == plan
    assert acted(by_hand, type="manual", module=O0, gains={"0": None}) == replace(plan, manual={D0: {1: 0.5}})


def test_one_act_takes_the_step_that_is_expected_to_do_best() -> None:
    best = applied(LONGER, {"type": "best"})
    assert best.plan == best_step(LONGER.plan, LONGER.spectra, LONGER.sensitivity).plan
    assert best.expectation.mean < 0
    assert applied(best, {"type": "undo"}).plan == LONGER.plan
    with pytest.raises(PolicyError, match="no sensitivities"):
        applied(UNMEASURED, {"type": "best"})


@pytest.mark.parametrize("value", [-0.1, 1.6, None, "1", True, math.nan])
def test_a_strength_out_of_its_range_is_refused(value: Any) -> None:
    with pytest.raises(PolicyError):
        applied(SMALL, {"type": "strength", "value": value})


def test_a_policy_brings_its_usual_energy_rule_and_a_rule_that_was_chosen_stays() -> None:
    truncated = applied(SMALL, {"type": "policy", "value": "rank"})
    assert (SMALL.plan.energy, truncated.plan.energy) == ("l1", "none")
    assert acted(truncated, type="policy", value="abs_select").energy == "l1"
    chosen = applied(truncated, {"type": "energy", "value": "l2"})
    assert acted(chosen, type="policy", value="scale").energy == "l2"


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
    later = applied(locked, {"type": "policy", "value": "rank"})
    assert later.edit.modules[O0].gains[1] == pytest.approx(before)


def test_each_act_is_one_step_with_a_name_and_can_be_undone() -> None:
    workspace = SMALL
    acts = [
        {"type": "policy", "value": "abs_select"},
        {"type": "knob", "knob": "amp", "value": 1.5},
        {"type": "manual", "module": O0, "gains": {"0": 0.5}},
        {"type": "manual", "module": O0, "gains": {"1": "lock"}},
        {"type": "group", "group": "third: middle", "value": 0.5},
        {"type": "ungroup"},
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
        ({"type": "group"}, "None"),
        ({"type": "group", "group": "family: o_proj"}, "None"),
        ({"type": "group", "group": "family: o_proj", "value": 2.5}, "from 0 to 2"),
        ({"type": "group", "group": "family: o_proj", "value": math.nan}, "nan"),
        ({"type": "group", "group": "family: x\ny", "value": 0.5}, "no family"),
        ({"type": "group", "group": "third: fourth", "value": 0.5}, "third: first or middle or last"),
        ({"type": "group", "group": ["family: o_proj"], "value": 0.5}, "no layer group"),
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
types = st.sampled_from(["policy", "knob", "group", "ungroup", "energy", "sigma_min", "manual", "forget"])
components = st.sampled_from(["0", "1", "2", "3", "00", "-1", "1.5", "１", "x"]) | st.text(max_size=3)
acts = st.fixed_dictionaries(
    {},
    optional={
        "type": types | anything,
        "value": st.sampled_from([*POLICIES, "l1", "l2", "none"]) | numbers | anything,
        "knob": st.sampled_from([knob.name for kind in POLICIES.values() for knob in knobs_of(kind)]) | anything,
        "group": st.sampled_from(["family: o_proj", "family: q_proj", "third: first", "third: last"]) | anything,
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
        assert stored_edit(record) == step.plan
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


def test_the_functional_rule_waits_for_what_enters_the_modules_and_holds_it_once_that_is_measured() -> None:
    act = {"type": "energy", "value": "functional"}
    waiting = applied(UNMEASURED, act)
    assert waiting.lacks_sensitivities
    # an earlier measurement taken up under such a plan asks for a calibration, as none does
    earlier = replace(SMALL.sensitivity, inputs=None)
    assert replace(waiting, sensitivity=earlier).lacks_sensitivities
    assert applied(replace(SMALL, sensitivity=earlier), act).lacks_sensitivities
    rng = np.random.default_rng(2)
    rows = {name: rng.standard_normal((5, len(sigma))) for name, sigma in SIGMA.items()}
    sums = {name: x.T @ x for name, x in rows.items()}
    inputs = InputMoments(sums, sums, tokens={"prompt": 5, "answer": 5})
    assert not replace(waiting, sensitivity=replace(SMALL.sensitivity, inputs=inputs)).lacks_sensitivities
    held = applied(replace(SMALL, sensitivity=replace(SMALL.sensitivity, inputs=inputs)), act)
    assert preview(held.edit, held.sensitivity).functional_energy_ratio == pytest.approx(1, rel=1e-12)
    assert "functional" in ENERGY_LABELS
