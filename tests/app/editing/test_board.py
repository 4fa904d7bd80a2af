"""The board tells the browser what the edit is, and believes nothing of what the browser sends back."""

import base64
import math
from dataclasses import replace

import numpy as np
import pytest

from app.editing.knob_tables import table_keys
from surgery.edits import LayerGroups, end_to_end, group_knobs, make_edit, preview, with_group
from surgery.errors import PolicyError
from surgery.policies import (
    POLICIES,
    AbsSelect,
    GradDirection,
    RandomIndex,
    Rank,
    Scale,
    knob_values,
    knobs_of,
    make_policy,
)
from tests.app.conftest import O0, O1, SIGMA, workspace_of
from tests.app.editing.conftest import LONGER, SMALL, UNMEASURED, gains, shown, with_plan
from tests.helpers.painting import painted
from tests.helpers.policies import measured, with_protected
from viz.style import HARMFUL, HELPFUL


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


@pytest.mark.parametrize(
    ("name", "measured_"),
    [(name, True) for name in POLICIES]
    + [(name, False) for name, kind in POLICIES.items() if not kind().needs_gradient and not kind().needs_q],
)
def test_the_data_of_every_policy_is_strict_json_and_decodes_to_the_edit(name: str, measured_: bool) -> None:
    policy = make_policy(name)
    for scope, energy in (("residual", "l1"), ("all", "none"), ("o_proj", "l2")):
        beside = replace(SMALL, sensitivity=with_protected(SMALL.sensitivity))
        workspace = with_plan(beside if measured_ else UNMEASURED, policy=policy, scope=scope, energy=energy)
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
        assert data["knobs"][0]["name"] == "strength"
        assert {knob["name"]: knob["value"] for knob in data["knobs"]} == {"strength": 1.0, **knob_values(policy)}
        assert data["positionRange"][0] <= data["positionRange"][1]
        numbers = preview(edit, workspace.sensitivity)
        if numbers is None:
            assert data["numbers"]["predicted"] is None
            assert data["expectation"] is None
        else:
            # six examples: too few for an edit that is computed from them
            assert (data["expectation"]["mean"] is None) == policy.needs_gradient
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


def test_an_energy_rule_that_makes_a_largest_value_much_larger_is_told() -> None:
    held = with_plan(UNMEASURED, policy=Rank(keep=1), energy="l1")
    assert "Largest singular value of a module ×" in shown(held)["skipped"]
    assert f"most in {O0} (4 to 10)" in shown(held)["skipped"]
    assert "Largest" not in shown(with_plan(held, energy="none"))["skipped"]
    assert "Largest" not in shown(with_plan(held, policy=Rank(keep=3)))["skipped"]


def test_gains_by_hand_and_idle_knobs_are_marked() -> None:
    workspace = with_plan(SMALL, policy=GradDirection(asymmetric=False), manual={O0: {1: 0.5}})
    data = shown(workspace)
    assert data["manual"] == {O0: {"1": 0.5}}
    idle = {knob["name"]: knob["idle"] for knob in data["knobs"]}
    assert idle == {
        "strength": False,
        "asymmetric": False,
        "eta_suppress": True,
        "eta_enhance": True,
        "power": True,
        "eta": False,
    }


@pytest.mark.parametrize(
    ("name", "knob"),
    [("grad_direction", "eta_suppress"), ("abs_select", "amp"), ("smooth_abs", "sup"), ("rank", "keep"),
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


@pytest.mark.parametrize("strength", [0.0, 0.45, 1.0, 1.5])
def test_the_page_shows_under_a_dragged_strength_its_edit_and_what_is_expected_of_it(strength: float) -> None:
    told = painted("board", shown(LONGER, "strength"), drag={"knob": "strength", "value": strength})
    workspace = with_plan(LONGER, strength=strength)
    np.testing.assert_allclose(told["gains"], end_to_end(workspace.edit), atol=1 / 8192, rtol=0)
    assert told["numbers"]["predicted"] == pytest.approx(preview(workspace.edit, LONGER.sensitivity).predicted)
    found = workspace.expectation
    for name in ("mean", "low", "high", "linear", "curvature"):
        assert told["expectation"][name] == pytest.approx(getattr(found, name)), name
    assert told["expectation"]["doubts"] == list(found.doubts)


@pytest.mark.parametrize("protect", [False, True])
@pytest.mark.parametrize("knob", ["family: o_proj", "third: first"])
def test_the_page_shows_under_a_dragged_group_its_edit_and_what_is_expected_of_it(
    knob: str, protect: bool
) -> None:
    beside = replace(LONGER, sensitivity=with_protected(LONGER.sensitivity)) if protect else LONGER
    groups = LayerGroups({"o_proj": 0.5}, (1.2, 1.0, 1.0), {"o_proj": (0.9, 1.0, 1.0)})
    start = with_plan(beside, scope="all", strength=0.8, sigma_min=0.1, groups=groups, protect=protect)
    data = shown(start, knob)
    for gain in (0.0, 0.75, 2.0):
        told = painted("board", data, drag={"knob": knob, "value": gain})
        turned = replace(start, history=start.history.record("x", with_group(start.plan, knob, gain)))
        np.testing.assert_allclose(told["gains"], end_to_end(turned.edit), atol=1 / 8192, rtol=0)
        assert told["numbers"]["predicted"] == pytest.approx(
            preview(turned.edit, beside.sensitivity).predicted, rel=1e-9, abs=1e-12
        )
        for name in ("mean", "low", "high", "linear", "curvature"):
            assert told["expectation"][name] == pytest.approx(getattr(turned.expectation, name), rel=1e-6), name


def test_a_slider_stands_for_each_family_in_scope_and_each_third_of_the_layers() -> None:
    groups = LayerGroups({"o_proj": 0.5}, (1.0, 0.25, 1.0))
    data = shown(with_plan(SMALL, scope="all", groups=groups))
    here = list(dict.fromkeys(spectrum.family for spectrum in SMALL.spectra.values()))
    assert [knob["name"] for knob in data["groups"]][: len(here)] == [f"family: {name}" for name in here]
    assert {knob["name"]: knob["value"] for knob in data["groups"]} == {
        **{f"family: {name}": groups.family.get(name, 1.0) for name in here},
        "third: first": 1.0,
        "third: middle": 0.25,
    }
    assert {(knob["kind"], knob["low"], knob["high"]) for knob in data["groups"]} == {("range", 0.0, 2.0)}
    assert data["groupsTold"] == "o_proj ×0.5, middle third ×0.25"
    assert [knob["label"] for knob in data["groups"]][-1] == "middle third of the layers"


def test_the_tables_of_all_knobs_but_the_strength_hang_on_it() -> None:
    whole, half = (shown(with_plan(SMALL, strength=each))["tableKeys"] for each in (1.0, 0.5))
    assert {knob for knob in whole if whole[knob] == half[knob]} == {"strength"}
    scaled = shown(with_plan(SMALL, groups=LayerGroups({"o_proj": 0.5})))["tableKeys"]
    assert {knob for knob in whole if whole[knob] == scaled[knob]} == {"family: o_proj"}
    both = shown(with_plan(SMALL, groups=LayerGroups(both={"o_proj": (0.5, 1, 1)})))["tableKeys"]
    assert set(whole.values()).isdisjoint(both.values())
    other = shown(with_plan(SMALL, policy=GradDirection(eta_suppress=1.0)))["tableKeys"]
    assert {knob for knob in whole if whole[knob] == other[knob]} == {"eta_suppress"}


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
    keys = table_keys(start)
    groups = {knob.name for knob in group_knobs(start.spectra, start.edit.modules)}
    assert set(keys) == {"strength", *groups, *(knob.name for knob in knobs_of(policy) if knob.slides)}
    assert len(set(keys.values())) == len(keys)
    key = table_keys(start)["amp"]
    assert table_keys(with_plan(start, policy=AbsSelect(amp=3.0)))["amp"] == key
    other = measured({name: g + 1 for name, g in SMALL.sensitivity.values.items()})
    other = replace(other, provenance=replace(other.provenance, examples="others"))
    changed = [
        with_plan(start, policy=AbsSelect(sup=0.5)),
        with_plan(start, policy=AbsSelect(norm="l2")),
        with_plan(start, policy=RandomIndex()),
        with_plan(start, scope="all"),
        with_plan(start, energy="l1"),
        with_plan(start, strength=0.5),
        with_plan(start, sigma_min=0.2),
        with_plan(start, manual={O0: {0: 1.25}}),
        with_plan(start, manual={O0: {1: 1.5}}),
        with_plan(start, manual={O1: {0: 1.5}}),
        with_plan(start, manual={}),
        replace(start, adapter=type(start.adapter)(**{**vars(start.adapter), "digest": "e" * 64})),
        replace(start, sensitivity=None),
        replace(start, sensitivity=other),
    ]
    found = [table_keys(workspace)["amp"] for workspace in changed]
    assert len({key, *found}) == len(changed) + 1
