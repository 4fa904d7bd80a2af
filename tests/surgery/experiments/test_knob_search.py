"""The search over a policy's knobs."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from surgery.edits import EditPlan
from surgery.errors import Cancelled, PolicyError
from surgery.experiments import (
    SearchLimits,
    TuningSetup,
    search,
)
from surgery.model import VariantEngine
from surgery.policies import (
    AbsSelect,
    Identity,
    RandomIndex,
    Rank,
    Scale,
    SmoothAbs,
)
from surgery.progress import Control
from tests.helpers.refusals import refusal
from tests.surgery.experiments.conftest import PLAN, assert_effect_by_hand, stop_after, without_model

ROOT = Path(__file__).resolve().parents[3]


def searched(shop, plan=PLAN, **options):
    limits = SearchLimits(options.pop("trials", 20), options.pop("seconds", None))
    return search(TuningSetup(shop.live, shop.slice_, shop.sensitivity), plan, limits=limits, **options)


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
        shop,
        EditPlan(Scale(), energy="l1"),
        trials=9,
        control=Control(progress=lambda done, total: seen.append(done)),
    )
    assert len(found.trials) == 1
    assert found.best.measured.mean == 0
    assert max(seen) == 14
    found = searched(shop, EditPlan(Rank(), energy="none"), trials=30)
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
        (EditPlan(Rank()), {"knobs": ["by"]}, "choose from keep"),
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
