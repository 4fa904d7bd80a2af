"""Tuning against losses by hand in float64, and searches against what they promise to keep."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surgery.data import CalibrationPlan, Row, calibration_rows, shared_keys
from surgery.edits import EditPlan, make_edit
from surgery.errors import Cancelled, DataError, PolicyError
from surgery.experiments import (
    TuningSetup,
    measure_edits,
    sweep_knob,
    sweep_values,
    tuning_plan,
)
from surgery.files import demo_names
from surgery.policies import (
    POLICIES,
    AbsSelect,
    GradDirection,
    RandomIndex,
    Rank,
    SmoothAbs,
    knobs_of,
    make_policy,
)
from surgery.progress import Control
from surgery.recipes import demo_plans
from tests.helpers.refusals import refusal
from tests.surgery.experiments.conftest import (
    PLAN,
    assert_effect_by_hand,
    slice_of,
    stop_after,
    without_model,
)


def swept(shop, knob, values, plan=PLAN, batch_size=32, **options):
    setup = TuningSetup(shop.live, shop.slice_, shop.sensitivity, batch_size)
    return sweep_knob(setup, plan, knob, values, **options)


def test_measured_effects_equal_losses_by_hand_on_every_slice(shop):
    slices = {"calibration": slice_of(8, seed=1), "tuning": shop.slice_}
    edits = {
        "step": PLAN.apply(shop.spectra, shop.sensitivity),
        "random": make_edit(shop.spectra, RandomIndex(amp=2.0, sup=0.3), scope="all"),
    }
    found = measure_edits(shop.live, slices, edits, batch_size=3)
    assert list(found) == list(slices)
    for name, slice_ in slices.items():
        assert list(found[name]) == list(edits)
        for edit_name, edit in edits.items():
            assert_effect_by_hand(shop, found[name][edit_name], edit, slice_.examples)


def test_the_progress_of_measuring_is_one_count_over_everything(shop):
    seen = []
    slices = {"first": slice_of(4, seed=5), "second": shop.slice_}
    edits = {"random": make_edit(shop.spectra, RandomIndex())}
    measure_edits(
        shop.live, slices, edits, batch_size=2, control=Control(progress=lambda *count: seen.append(count))
    )
    assert {total for _, total in seen} == {2 * 4 + 2 * 7}
    done = [count for count, _ in seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 22)
    assert {4, 8, 14} <= set(done)  # an example is counted for both at once


def test_measuring_can_be_cancelled_between_batches(shop):
    edits = {"random": make_edit(shop.spectra, RandomIndex())}
    with pytest.raises(Cancelled):
        measure_edits(shop.live, {"t": shop.slice_}, edits, batch_size=2, control=Control(cancelled=stop_after(3)))


def test_an_edit_cannot_take_the_name_of_the_unedited_adapter(shop):
    edits = {"unedited": make_edit(shop.spectra, RandomIndex())}
    assert "rename" in refusal(DataError, measure_edits, shop.live, {"t": shop.slice_}, edits)


def test_a_swept_point_is_predicted_and_measured_as_by_hand(shop):
    points = swept(shop, "eta_suppress", [0.1, 2.0], batch_size=4)
    assert [point.value for point in points] == [0.1, 2.0]
    for point in points:
        plan = EditPlan(GradDirection(eta_suppress=point.value), energy="none")
        edit = plan.apply(shop.spectra, shop.sensitivity)
        assert_effect_by_hand(shop, point.measured, edit, shop.slice_.examples)
        expected = sum(
            (shop.sensitivity.values[name] @ (after - shop.spectra[name].sigma)).mean()
            for name, after in edit.sigma_after.items()
        )
        np.testing.assert_allclose(point.predicted.predicted, expected, rtol=1e-9)


def test_a_sweep_changes_nothing_at_the_value_that_is_no_edit(shop):
    plan = EditPlan(GradDirection(eta_enhance=0.0), energy="none")
    none, some = swept(shop, "eta_suppress", [0.0, 1.0], plan)
    assert (none.measured.mean, none.measured.low, none.measured.high) == (0, 0, 0)
    assert none.predicted.predicted == 0
    assert some.measured.mean != 0


def test_a_sweep_keeps_everything_of_the_plan_but_its_knob(shop):
    name = "model.layers.0.mlp.up_proj"
    plan = EditPlan(AbsSelect(sup=0.1, norm="l2"), scope="gate-up", energy="l2", manual={name: {1: 0.2}})
    (point,) = swept(shop, "amp", [2.0], plan)
    whole = replace(plan, policy=AbsSelect(sup=0.1, norm="l2", amp=2.0)).apply(shop.spectra, shop.sensitivity)
    assert_effect_by_hand(shop, point.measured, whole, shop.slice_.examples)


def test_a_sweep_scores_the_unedited_adapter_once(shop):
    seen = []
    swept(shop, "eta_suppress", [0.0, 1.0, 2.0], control=Control(progress=lambda *count: seen.append(count)))
    assert seen == [(count, 28) for count in range(0, 29, 4)]  # each of 7 examples for three values and once more


def test_a_sweep_without_sensitivities_predicts_nothing(shop):
    plan = EditPlan(Rank(), energy="none")
    points = sweep_knob(TuningSetup(shop.live, shop.slice_, None), plan, "keep", [1, 2.0])
    assert [point.predicted for point in points] == [None, None]
    assert [point.value for point in points] == [1, 2]


@pytest.mark.parametrize(
    ("plan", "knob", "values"),
    [
        (PLAN, "eta_suppress", [1.0, 9.0]),
        (PLAN, "eta_suppress", [float("nan")]),
        (PLAN, "keep", [1.0]),
        (EditPlan(SmoothAbs()), "sup", [0.5, 1.0]),
        (EditPlan(Rank(), energy="none"), "keep", [1.5]),
        (EditPlan(Rank(), scope="nothing like it"), "keep", [1]),
    ],
    ids=["out of range", "not a number", "unknown", "refused by the policy", "half a component", "scope"],
)
def test_what_a_sweep_refuses_it_refuses_before_the_model_runs(shop, plan, knob, values):
    refusal(PolicyError, swept, without_model(shop), knob, values, plan)


def test_a_sweep_can_be_cancelled(shop):
    with pytest.raises(Cancelled):
        swept(shop, "eta_suppress", [1.0, 2.0], batch_size=2, control=Control(cancelled=stop_after(3)))


def knob_of(policy, name):
    return next(knob for knob in knobs_of(policy) if knob.name == name)


@pytest.mark.parametrize(
    ("policy", "name", "count", "expected"),
    [
        (GradDirection, "eta", 9, (0, 1, 2, 3, 4, 5, 6, 7, 8)),
        (GradDirection, "power", 4, (0.1, 1.4, 2.7, 4.0)),
        (SmoothAbs, "core_frac", 6, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (SmoothAbs, "temperature", 2, (0.05, 4.0)),
        (SmoothAbs, "align_mid", 9, (False, True)),
        (POLICIES["z_score"], "core_z", 5, (-8, -4, 0, 4, 8)),
    ],
)
def test_swept_values_are_spread_over_the_range(policy, name, count, expected):
    assert sweep_values(knob_of(policy, name), count) == expected


def test_swept_values_can_end_at_the_rank():
    assert sweep_values(knob_of(Rank, "keep"), high=4) == (0, 1, 2, 3, 4)
    assert sweep_values(knob_of(Rank, "keep"), high=16) == (0, 2, 4, 6, 8, 10, 12, 14, 16)
    assert sweep_values(knob_of(Rank, "keep"), 3, high=1000) == (0, 128, 256)


@pytest.mark.parametrize("name", POLICIES)
def test_every_swept_value_lies_on_the_knobs_steps_and_is_allowed(name):
    for knob in knobs_of(POLICIES[name]):
        if knob.kind is str:
            assert "range" in refusal(PolicyError, sweep_values, knob)
            continue
        values = sweep_values(knob)
        assert 2 <= len(values) <= 9
        assert list(values) == sorted(set(values))
        for value in values:
            assert type(value) is knob.kind
            assert getattr(make_policy(name, {knob.name: value}), knob.name) == value
        if knob.kind is not bool:
            assert values[0] == knob.low
            assert knob.high - values[-1] < knob.step
            steps = (np.array(values) - knob.low) / knob.step
            np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)


def test_a_sweep_has_two_values_at_least():
    assert "2 or more" in refusal(PolicyError, sweep_values, knob_of(GradDirection, "eta"), 1)


def rows_file(folder: Path, rows) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": row.prompt, "answer": row.answer}) + "\n" for row in rows))
    return str(file)


ROWS = [Row(f"{a}+{b}=", str(a + b)) for a in range(4) for b in range(5)]


@pytest.mark.parametrize("start", [0, 3])
def test_tuning_rows_follow_the_calibration_rows_in_the_same_shuffle(tmp_path, start):
    plan = CalibrationPlan(rows_file(tmp_path, ROWS), 7, seed=5, start=start, batch_size=3)
    tuning = tuning_plan(plan)
    assert tuning == replace(plan, start=start + 7)
    order = np.random.default_rng(5).permutation(20)
    assert calibration_rows(tuning) == [ROWS[i] for i in order[start + 7 : start + 14]]
    assert not shared_keys(calibration_rows(plan), calibration_rows(tuning))


def test_all_rows_can_go_to_calibration_and_tuning(tmp_path):
    plan = CalibrationPlan(rows_file(tmp_path, ROWS), 10)
    both = calibration_rows(plan) + calibration_rows(tuning_plan(plan))
    assert {row.key for row in both} == {row.key for row in ROWS}


def test_too_few_rows_left_for_tuning_are_refused(tmp_path):
    file = rows_file(tmp_path, ROWS)
    said = refusal(DataError, tuning_plan, CalibrationPlan(file, 7, start=7))
    assert "7 rows are needed" in said
    assert "has 6 " in said
    assert "20" in refusal(DataError, tuning_plan, CalibrationPlan(file, 21))


def test_repeated_rows_are_not_tuned_on(tmp_path):
    again = [Row(f" {row.prompt}", f"{row.answer} ") for row in ROWS]
    said = refusal(DataError, tuning_plan, CalibrationPlan(rows_file(tmp_path, ROWS + again), 20))
    assert "were used for calibration" in said


@pytest.mark.parametrize("name", demo_names())
def test_a_demo_is_tuned_on_its_own_slice_apart_from_calibration_and_test(name):
    _, calibration, evaluation = demo_plans(f"demo:{name}")
    for plan in (calibration, replace(calibration, examples=200, start=56, seed=1)):
        tuning = tuning_plan(plan)
        assert tuning.data == f"demo:{name}/tuning"
        rows = calibration_rows(tuning)
        assert len(rows) == plan.examples
        assert not shared_keys(rows, calibration_rows(plan))
        test = calibration_rows(CalibrationPlan(evaluation.data, 512))
        assert not shared_keys(rows, test)


def test_a_demo_calibrated_on_its_tuning_slice_has_nothing_left_to_tune_on():
    plan = CalibrationPlan("demo:kinship/tuning", 200)
    assert "were used for calibration" in refusal(DataError, tuning_plan, plan)
