"""Tuning against losses by hand in float64, and searches against what they promise to keep."""

import itertools
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from surgery.adapter import open_adapter
from surgery.data import Calibration, CalibrationPlan, Encoding, Row, calibration_rows, shared_keys
from surgery.edits import EditPlan, make_edit
from surgery.errors import Cancelled, DataError, PolicyError
from surgery.experiments import (
    SearchLimits,
    TuningSetup,
    measure_edits,
    search,
    sweep_knob,
    sweep_values,
    tuning_plan,
)
from surgery.files import demo_names
from surgery.model import LiveModel, VariantEngine, answer_losses, collate
from surgery.policies import (
    POLICIES,
    AbsSelect,
    GradDirection,
    Identity,
    RandomIndex,
    Scale,
    SmoothAbs,
    Truncate,
    knobs_of,
    make_policy,
)
from surgery.progress import Control
from surgery.recipes import demo_plans
from surgery.sensitivity import measure_sensitivity
from surgery.spectra import decompose
from tests.helpers.models import (
    double,
    example_loss,
    loaded_base,
    random_examples,
    save_adapter,
    singular_triplets,
    tiny_llama,
)

ROOT = Path(__file__).resolve().parents[3]
PLAN = EditPlan(GradDirection(eta_suppress=0.4), energy="none")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A live model in float64 with its sensitivities, a slice to tune on and the adapter's folder."""
    folder = save_adapter(tiny_llama(), tmp_path_factory.mktemp("adapter"))
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    with LiveModel(loaded_base(double(tiny_llama())), adapter, spectra) as live:
        sensitivity = measure_sensitivity(live, slice_of(8, seed=1), list(spectra))
        tuning = slice_of(7, seed=2)
        yield SimpleNamespace(
            live=live,
            spectra=spectra,
            sensitivity=sensitivity,
            folder=folder,
            slice_=tuning,
            unedited=held_losses(live, tuning),
        )


@pytest.fixture(autouse=True)
def everything_is_put_back(request):
    """After every test that had the live model, it holds the adapter's own σ."""
    yield
    if "shop" in request.fixturenames:
        shop = request.getfixturevalue("shop")
        found = held_losses(shop.live, shop.slice_)
        np.testing.assert_array_equal(found, shop.unedited)


def slice_of(count: int, seed: int) -> Calibration:
    return Calibration(tuple(random_examples(count, seed)), Encoding())


def held_losses(live, slice_) -> np.ndarray:
    """Losses at the σ that the live model holds."""
    with torch.no_grad():
        return answer_losses(live.model, collate(slice_.examples, 0)).numpy()


def searched(shop, plan=PLAN, **options):
    limits = SearchLimits(options.pop("trials", 20), options.pop("seconds", None))
    return search(TuningSetup(shop.live, shop.slice_, shop.sensitivity), plan, limits=limits, **options)


def swept(shop, knob, values, plan=PLAN, batch_size=32, **options):
    setup = TuningSetup(shop.live, shop.slice_, shop.sensitivity, batch_size)
    return sweep_knob(setup, plan, knob, values, **options)


def without_model(shop):
    """The shop with a live model that has spectra and nothing that could run."""
    live = SimpleNamespace(spectra=shop.spectra)
    return SimpleNamespace(live=live, slice_=shop.slice_, sensitivity=shop.sensitivity)


def losses_by_hand(shop, sigma_after, examples) -> np.ndarray:
    """Dense weights W + U·diag(σ′)·Vᵀ in a float64 model without any adapter, one example at a time."""
    model = double(tiny_llama())
    with torch.no_grad():
        for name, (U, sigma, V) in singular_triplets(tiny_llama(), shop.folder).items():
            new = torch.as_tensor(sigma_after.get(name, sigma))
            model.get_submodule(name).weight += U @ torch.diag(new) @ V.T
        return np.array([example_loss(model, example).item() for example in examples])


def assert_effect_by_hand(shop, effect, edit, examples) -> None:
    change = losses_by_hand(shop, edit.sigma_after, examples) - losses_by_hand(shop, {}, examples)
    assert abs(change).max() > 1e-4, "an edit that does nothing shows nothing"
    np.testing.assert_allclose(effect.mean, change.mean(), rtol=1e-9)
    np.testing.assert_allclose(effect.standard_error, change.std(ddof=1) / np.sqrt(change.size), rtol=1e-9)
    assert effect.low < effect.mean < effect.high


def stop_after(calls: int):
    """A `cancelled` that says yes from its call number `calls` on, counted from 0."""
    count = itertools.count()
    return lambda: next(count) >= calls


def refusal(kind, function, *arguments, **options) -> str:
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# ---- edits on slices ----


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


# ---- one knob ----


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
    plan = EditPlan(Truncate(), energy="none")
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
        (EditPlan(Truncate(), energy="none"), "keep", [1.5]),
        (EditPlan(Truncate(), scope="nothing like it"), "keep", [1]),
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
    assert sweep_values(knob_of(Truncate, "keep"), high=4) == (0, 1, 2, 3, 4)
    assert sweep_values(knob_of(Truncate, "keep"), high=16) == (0, 2, 4, 6, 8, 10, 12, 14, 16)
    assert sweep_values(knob_of(Truncate, "keep"), 3, high=1000) == (0, 128, 256)


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


# ---- all knobs ----


def test_the_plan_given_is_the_first_trial_and_nothing_worse_is_returned(shop):
    for seed in range(3):
        found = searched(shop, trials=4, seed=seed)
        first = found.trials[0]
        assert first.plan is PLAN
        assert_effect_by_hand(
            shop, first.measured, PLAN.apply(shop.spectra, shop.sensitivity), shop.slice_.examples
        )
        assert found.best in found.trials
        assert found.best.measured.mean == min(trial.measured.mean for trial in found.trials)


def test_the_best_trial_measures_what_its_plan_does_by_hand(shop):
    found = searched(shop, trials=12)
    assert found.best is not found.trials[0]
    edit = found.best.plan.apply(shop.spectra, shop.sensitivity)
    assert_effect_by_hand(shop, found.best.measured, edit, shop.slice_.examples)


def test_a_search_is_reproducible_by_its_seed(shop):
    first, again, other = (searched(shop, trials=14, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert [t.plan for t in first.trials] != [t.plan for t in other.trials]


def test_a_search_varies_sliding_knobs_on_their_steps_and_nothing_else(shop):
    name = "model.layers.0.mlp.up_proj"
    policy = AbsSelect(norm="l2", magnitude="abs_mean", core_frac=0.33)
    plan = EditPlan(policy, scope="gate-up", energy="l2", sigma_min=0.01, manual={name: {1: 0.2}})
    found = searched(shop, plan, trials=14)
    assert found.trials[0].plan.policy.core_frac == 0.33
    for trial in found.trials:
        kept = replace(
            trial.plan.policy,
            **{
                each: getattr(policy, each)
                for each in ("core_frac", "noise_frac", "amp", "sup", "mid", "min_core_k")
            },
        )
        assert replace(trial.plan, policy=kept) == plan
    tried = [trial.plan.policy for trial in found.trials[1:]]
    assert all(abs(p.amp * 20 - round(p.amp * 20)) < 1e-6 for p in tried)
    assert all(0 <= p.min_core_k <= 4 for p in tried), "no module has more components than its rank"
    for each in ("core_frac", "noise_frac", "amp", "sup", "mid", "min_core_k"):
        assert len({getattr(p, each) for p in tried}) > 1


def test_a_search_can_be_kept_to_some_knobs(shop):
    found = searched(shop, trials=8, knobs=["eta_enhance"])
    assert len({trial.plan.policy.eta_enhance for trial in found.trials}) > 3
    assert {replace(t.plan.policy, eta_enhance=0.2) for t in found.trials} == {PLAN.policy}


def test_knobs_that_do_nothing_are_left_alone(shop):
    found = searched(shop, trials=16)
    forms = {trial.plan.policy.asymmetric for trial in found.trials}
    assert forms == {True, False}
    for policy in (trial.plan.policy for trial in found.trials):
        idle = {"eta": 0.2} if policy.asymmetric else {"eta_suppress": 0.4, "eta_enhance": 0.2, "power": 1.0}
        assert {name: getattr(policy, name) for name in idle} == idle


def test_the_seed_of_a_random_policy_is_not_searched(shop):
    plan = EditPlan(RandomIndex(seed=7))
    assert {trial.plan.policy.seed for trial in searched(shop, plan, trials=6).trials} == {7}


def test_settings_that_give_the_same_sigma_are_measured_once(shop):
    seen = []
    # the energy rule undoes every uniform scale, so all of them are the unedited adapter
    found = searched(
        shop, EditPlan(Scale()), trials=9, control=Control(progress=lambda done, total: seen.append(done))
    )
    assert len(found.trials) == 1
    assert found.best.measured.mean == 0
    assert max(seen) == 14
    found = searched(shop, EditPlan(Truncate(), energy="none"), trials=30)
    assert 2 < len(found.trials) <= 5
    assert found.trials[0].plan.policy.keep == 8


def test_refused_settings_use_up_trials_and_are_not_measured(shop):
    plan = EditPlan(SmoothAbs())  # with align_mid on, sup < mid < amp is asked for
    found = searched(shop, plan, trials=30, knobs=["amp", "sup", "mid"])
    assert 1 < len(found.trials) < 20
    assert all(t.plan.policy.sup < t.plan.policy.mid < t.plan.policy.amp for t in found.trials)


@pytest.mark.parametrize("trials", [1, 5])
def test_a_search_tries_no_more_than_it_is_told_and_counts_them_in_its_progress(shop, trials):
    seen = []
    found = searched(shop, trials=trials, control=Control(progress=lambda *count: seen.append(count)))
    assert len(found.trials) == trials
    assert seen[0] == (0, 7 * (1 + trials))
    assert seen[-1] == (7 * (1 + trials), 7 * (1 + trials))


def test_the_time_limit_ends_a_search_after_the_running_trial(shop, monkeypatch):
    assert len(searched(shop, seconds=0).trials) == 1
    now = 100.0

    def progress(done: int, total: int) -> None:
        nonlocal now
        now = 100.0 + done

    monkeypatch.setattr("surgery.experiments.knob_search.time", SimpleNamespace(monotonic=lambda: now))
    whole = searched(shop, trials=6)
    for seconds, passes in ((7 * 3, 3), (7 * 3 + 0.5, 4), (7 * 3 - 0.5, 3)):
        now = 100.0
        found = searched(shop, trials=6, seconds=seconds, control=Control(progress=progress))
        assert found.trials == whole.trials[: passes - 1]


def test_a_cancel_ends_a_search_and_keeps_the_best_so_far(shop):
    whole = searched(shop, trials=6)
    found = searched(shop, trials=6, control=Control(cancelled=stop_after(2)))
    assert found.trials == whole.trials[:3]
    assert found.best == min(found.trials, key=lambda trial: trial.measured.mean)
    assert searched(shop, control=Control(cancelled=lambda: True)).trials == whole.trials[:1]


def test_a_cancel_raised_by_the_progress_keeps_the_best_so_far(shop):
    whole = searched(shop, trials=6)

    def progress(done: int, total: int) -> None:
        if done > 2 * 7:
            raise Cancelled

    assert searched(shop, trials=6, control=Control(progress=progress)).trials == whole.trials[:2]


def test_an_error_while_a_trial_runs_comes_out_and_leaves_the_model_unedited(shop):
    def progress(done: int, total: int) -> None:
        if done > 2 * 7:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        searched(shop, control=Control(progress=progress))


def test_a_search_starts_from_the_unedited_adapter_whatever_the_model_holds(shop):
    expected = searched(shop, trials=1)
    shop.live.set_sigma({name: 3 * s.sigma for name, s in shop.spectra.items()})
    assert searched(shop, trials=1) == expected


def test_a_trial_without_a_finite_loss_is_never_the_best(shop, monkeypatch):
    measured = VariantEngine.answer_losses

    def broken(engine, examples, **options):
        found = measured(engine, examples, **options)
        nothing = np.full_like(shop.unedited, np.nan)
        return {
            n: nothing if losses.mean() > shop.unedited.mean() + 1e-6 else losses for n, losses in found.items()
        }

    monkeypatch.setattr(VariantEngine, "answer_losses", broken)
    plan = EditPlan(RandomIndex(sup=4.0), energy="none")
    found = searched(shop, plan, trials=12)
    assert np.isnan(found.trials[0].measured.mean), "this plan is to be one that breaks"
    assert any(np.isfinite(trial.measured.mean) for trial in found.trials)
    assert np.isfinite(found.best.measured.mean)


def test_the_warning_counts_the_trials(shop):
    assert "best of 3 trials" in searched(shop, trials=3).warning
    assert "best of 1 trial " in searched(shop, trials=1).warning


@pytest.mark.parametrize(
    ("plan", "options", "word"),
    [
        (EditPlan(Identity()), {}, "another policy"),
        (PLAN, {"knobs": []}, "choose knobs"),
        (PLAN, {"knobs": ["keep"]}, "keep"),
        (PLAN, {"knobs": ["eta"]}, "asymmetric"),
        (EditPlan(Truncate()), {"knobs": ["by"]}, "choose from keep"),
        (EditPlan(RandomIndex()), {"knobs": ["seed"]}, "seed"),
        (EditPlan(SmoothAbs(sup=2.0)), {}, "align_mid"),
        (EditPlan(scope="nothing like it"), {}, "scope"),
        (PLAN, {"trials": 0}, "1 trial"),
        (PLAN, {"seconds": -1.0}, "0 seconds"),
        (PLAN, {"seconds": float("nan")}, "0 seconds"),
        (PLAN, {"seed": -1}, "seed"),
        (PLAN, {"seed": 2**32}, "seed"),
    ],
)
def test_what_a_search_refuses_it_refuses_before_the_model_runs(shop, plan, options, word):
    assert word in refusal(PolicyError, searched, without_model(shop), plan, **options)


def test_a_search_without_the_sensitivities_it_needs_is_refused_before_the_model_runs(shop):
    assert "calibrate" in refusal(
        PolicyError, search, TuningSetup(without_model(shop).live, shop.slice_, None), PLAN
    )


def test_a_search_runs_off_the_main_thread(shop):
    found = []
    thread = threading.Thread(target=lambda: found.append(searched(shop, trials=3)))
    thread.start()
    thread.join()
    assert found == [searched(shop, trials=3)]


@pytest.mark.filterwarnings("error")
def test_a_search_says_nothing_and_leaves_optunas_logging_as_it_was(shop, capfd):
    import optuna

    before = optuna.logging.get_verbosity()
    searched(shop, EditPlan(SmoothAbs(temperature=0.35)), trials=14)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_tuning_loads_neither_optuna_nor_torch_before_it_is_used():
    code = "import sys, surgery.experiments.knob_search; print({'optuna', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- the rows ----


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
