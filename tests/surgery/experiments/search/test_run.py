"""Searches from their first trial to their front, broken off in every way and taken up again."""

import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surgery.edits import EditPlan
from surgery.errors import Cancelled, DataError, PolicyError
from surgery.evaluation import evaluate
from surgery.experiments import TuningSetup
from surgery.experiments.search import (
    BROKEN,
    MEASURED,
    REFUSED,
    STOPPED,
    SearchLimits,
    kept_share,
    search,
    stored_searches,
)
from surgery.model import VariantEngine
from surgery.policies import Identity, RandomIndex, Rank, Scale, SmoothAbs
from surgery.progress import Control
from surgery.runs import LOG, AnswerLog
from tests.helpers.refusals import refusal
from tests.surgery.experiments.conftest import PLAN, assert_effect_by_hand, slice_of, without_model
from tests.surgery.experiments.search.conftest import search_plan, searched

ROOT = Path(__file__).resolve().parents[4]


def test_the_plan_given_is_the_first_trial_and_measures_what_it_does_by_hand(shop):
    start = EditPlan(replace(PLAN.policy, eta_suppress=0.4123), energy="none")  # between two steps
    first = searched(shop, search_plan(start=start), trials=1).trials[0]
    assert first.plan == start
    assert_effect_by_hand(
        shop, first.effects["loss"], start.apply(shop.spectra, shop.sensitivity), shop.slice_.examples
    )


def test_what_a_search_finds_again_from_its_folder_is_what_it_returned(shop):
    found = searched(shop, trials=4)
    (stored,) = stored_searches(shop.live.adapter.digest)
    assert stored.folder.name == found.key
    assert stored.plan == found.plan
    assert stored.trials == found.trials
    assert not stored.under_way


@pytest.mark.parametrize(("broken_off", "objectives"), [(0, ("loss", "kl")), (2, ("exact", "kl"))])
def test_a_search_that_is_killed_and_taken_up_again_is_the_search_without_the_break(
    shop, tmp_path, monkeypatch, broken_off, objectives
):
    """Cut off in the middle of a trial of which one part is measured, as a kill does: nothing is cleaned up."""
    rows = slice_of(16, seed=2)
    plan = search_plan(objectives, parts=("strength",), race=False)
    whole = searched(shop, plan, trials=4, rows=rows)
    monkeypatch.setattr("surgery.files.places.RUNS", str(tmp_path / "other home"))

    class Kill(BaseException):
        pass

    def progress(done: int, total: int) -> None:
        if done >= broken_off * 16 + 8:
            raise Kill

    with pytest.raises(Kill):
        searched(shop, plan, trials=4, rows=rows, control=Control(progress=progress))
    heard = []
    control = Control(resumed=lambda *count: heard.append(count))
    again = searched(shop, plan, trials=4, rows=rows, control=control)
    assert again == whole
    assert again.front == whole.front
    assert heard == ([(broken_off * 16, 4 * 16)] if broken_off else [])


def test_more_trials_are_added_to_those_of_a_search_that_ended(shop):
    few, more = searched(shop, trials=2), searched(shop, trials=4)
    assert few.key == more.key
    assert more.trials[:2] == few.trials
    assert len(more.trials) == 4
    assert searched(shop, trials=1).trials == more.trials


def test_a_cancel_in_either_form_ends_a_search_with_what_it_has_and_it_goes_on(shop, tmp_path, monkeypatch):
    def progress(done: int, total: int) -> None:
        if done > 2 * 7:
            raise Cancelled

    assert len(searched(shop, control=Control(progress=progress)).trials) == 2
    assert len(searched(shop, trials=3, control=Control(cancelled=lambda: True)).trials) == 2
    found = searched(shop, trials=3)
    monkeypatch.setattr("surgery.files.places.RUNS", str(tmp_path / "other home"))
    assert searched(shop, trials=3) == found


def test_the_time_limit_ends_a_search_after_the_running_trial(shop):
    assert len(searched(shop, seconds=0).trials) == 1
    assert len(searched(shop, seconds=0).trials) == 2, "and one more when it is taken up again"


def test_every_trial_is_told_when_it_has_ended_and_counted_in_progress(shop):
    seen, counts = [], []
    control = Control(progress=lambda *count: counts.append(count))
    found = searched(shop, trials=3, tell=seen.append, control=control)
    assert [len(each.trials) for each in seen] == [0, 1, 2, 3]
    assert seen[-1] == found
    assert counts[-1] == (3 * 7, 3 * 7)


def test_the_best_of_one_objective_is_the_whole_front(shop):
    found = searched(shop, search_plan(("loss",)), trials=6)
    means = [trial.effects["loss"].mean for trial in found.trials]
    assert [trial.number for trial in found.front] == [int(np.argmin(means))]
    assert min(means) < 0


def test_every_objective_is_measured_as_it_is_elsewhere(shop):
    plan = search_plan(("loss", "exact", "protected", "parameters"), EditPlan(Rank(keep=2), energy="none"))
    trial = searched(shop, plan, trials=1).trials[0]
    edit = trial.plan.apply(shop.spectra, None)
    for name, slice_, metric in (("exact", shop.slice_, "exact"), ("protected", slice_of(5, seed=3), "loss")):
        expected = evaluate(shop.live, slice_, {"edit": edit.sigma_after}).effect("edit", metric)
        np.testing.assert_allclose(trial.effects[name].mean, expected.mean, rtol=1e-7, atol=1e-12)
    cut = kept_share(shop.spectra, edit) - 1
    assert (trial.effects["parameters"].mean, trial.effects["parameters"].standard_error) == (cut, 0)
    assert cut < 0


def test_a_trial_that_is_worse_in_everything_is_stopped_and_has_no_place_in_the_front(shop):
    plan = search_plan(("kl", "parameters"), EditPlan(Scale(0.05), scope="all", energy="none"))
    rows = slice_of(32, seed=2)
    raced = searched(shop, plan, trials=1, rows=rows)
    assert (raced.trials[0].outcome, raced.trials[0].rows) == (STOPPED, 8)
    assert raced.trials[0].effects["kl"].low > 0
    assert raced.front == ()
    whole = searched(shop, replace(plan, race=False), trials=1, rows=rows).trials[0]
    assert (whole.outcome, whole.rows) == (MEASURED, 32)


def test_settings_that_give_the_same_sigma_are_measured_once(shop):
    found = searched(shop, search_plan(start=EditPlan(Scale(), energy="l1")), trials=4)
    assert [trial.same_as for trial in found.trials] == [None, 0, 0, 0]
    assert found.trials[0].effects["loss"].mean == 0
    assert found.front == ()


def test_refused_settings_use_up_trials(shop):
    plan = search_plan(start=EditPlan(SmoothAbs()), knobs=("amp", "sup", "mid"))
    found = searched(shop, plan, trials=14)
    assert {MEASURED, REFUSED} <= {trial.outcome for trial in found.trials}
    for trial in found.trials:
        assert (trial.plan is None) == (trial.outcome == REFUSED)


def test_a_model_driven_out_of_range_ends_its_trial_and_not_the_search(shop, monkeypatch):
    measured = VariantEngine.answer_losses

    def broken(engine, examples, **options):
        found = measured(engine, examples, **options)
        moved = {name: losses for name, losses in found.items() if abs(losses - shop.unedited).max() > 1e-6}
        return found | {name: np.full_like(shop.unedited, np.nan) for name in moved}

    monkeypatch.setattr(VariantEngine, "answer_losses", broken)
    found = searched(shop, search_plan(("loss",), EditPlan(RandomIndex(sup=4.0), energy="none")), trials=3)
    assert {trial.outcome for trial in found.trials} == {BROKEN}
    assert found.front == ()


@pytest.mark.parametrize(
    ("start", "word"), [(EditPlan(Identity()), "another policy"), (EditPlan(SmoothAbs(sup=2.0)), "align_mid")]
)
def test_what_a_search_refuses_it_refuses_before_the_model_runs_and_leaves_nothing(shop, history, start, word):
    assert word in refusal(PolicyError, searched, without_model(shop), search_plan(start=start))
    assert list(history.iterdir()) == []


def test_a_search_without_what_it_needs_is_refused(shop):
    setup = TuningSetup(without_model(shop).live, shop.slice_, None)
    assert "calibrate" in refusal(PolicyError, search, setup, search_plan())
    setup = TuningSetup(shop.live, shop.slice_, shop.sensitivity)
    assert "protected rows" in refusal(DataError, search, setup, search_plan(("protected",)))


@pytest.mark.parametrize(("trials", "seconds"), [(0, None), (1, -1.0), (1, float("nan"))])
def test_limits_that_make_no_search_are_refused(trials, seconds):
    assert "1 trial" in refusal(PolicyError, SearchLimits, trials, seconds)


def test_a_search_that_is_under_way_elsewhere_is_refused(shop, history):
    key = searched(shop, trials=1).key
    with AnswerLog(history / key / LOG):
        assert "under way" in refusal(DataError, searched, shop, trials=2)


@pytest.mark.filterwarnings("error")
def test_a_search_off_the_main_thread_says_nothing_and_leaves_optunas_logging_as_it_was(shop, capfd):
    import optuna

    before, found = optuna.logging.get_verbosity(), []
    thread = threading.Thread(target=lambda: found.append(searched(shop, trials=12)))
    thread.start()
    thread.join()
    assert len(found[0].trials) == 12
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_a_search_loads_neither_optuna_nor_torch_before_it_is_used():
    code = "import sys, surgery.experiments.search; print({'optuna', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
