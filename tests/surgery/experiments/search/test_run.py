"""Searches from their first trial to their front, broken off in every way and taken up again."""

from dataclasses import replace

import pytest

from surgery.edits import EditPlan
from surgery.experiments.search import (
    stored_searches,
)
from surgery.progress import Control
from tests.surgery.experiments.conftest import (
    PLAN,
    assert_effect_by_hand,
    slice_of,
)
from tests.surgery.experiments.search.conftest import search_plan, searched


def test_the_plan_given_is_the_first_trial_and_measures_what_it_does_by_hand(shop):
    start = EditPlan(replace(PLAN.policy, eta_suppress=0.4123), energy="none")  # between two steps
    first = searched(shop, search_plan(start=start), trials=1).trials[0]
    assert first.plan == start
    assert_effect_by_hand(
        shop, first.effects["loss"], start.apply(shop.spectra, shop.sensitivity), shop.slice_.examples
    )


def test_what_a_search_finds_again_from_its_folder_is_what_it_returned(shop):
    found = searched(shop)
    stored = stored_searches(shop.live.adapter.digest)[0]
    assert stored.folder.name == found.key
    assert stored.plan == found.plan
    assert stored.trials == found.trials
    assert not stored.under_way


@pytest.mark.parametrize("broken_off", [0, 1, 3, 7])
def test_a_search_cut_off_and_taken_up_again_is_the_search_without_the_break(
    shop, tmp_path, monkeypatch, broken_off
):
    """Cut off in the middle of a trial of which one part is measured, as a kill does: nothing is cleaned up."""
    rows = slice_of(16, seed=2)
    plan = search_plan(("loss", "exact", "kl"), parts=("strength",), race=False)
    whole = searched(shop, plan, trials=12, rows=rows)
    monkeypatch.setattr("surgery.files.places.RUNS", str(tmp_path / "other home"))

    class Kill(BaseException):
        pass

    def progress(done: int, total: int) -> None:
        if done > broken_off * 16 + 8:
            raise Kill

    with pytest.raises(Kill):
        searched(shop, plan, trials=12, rows=rows, control=Control(progress=progress))
    heard = []
    again = searched(shop, plan, trials=12, rows=rows, control=Control(resumed=lambda *count: heard.append(count)))
    assert again == whole
    assert again.front == whole.front
    assert heard == ([(broken_off * 16, 12 * 16)] if broken_off else [])
