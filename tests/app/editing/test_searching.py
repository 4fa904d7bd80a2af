"""The search of the bench on a real tiny model: ticked, run, opened, kept, tried, and barred from its proof."""

import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.state import jobs
from app.state.workspace import Workspace
from surgery.experiments.search import stored_searches
from tests.app.editing.conftest import press

APP = Path(__file__).resolve().parents[3] / "app"


def opened(workspace: Workspace) -> AppTest:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    test.session_state["workspace"] = workspace
    test.session_state["bench-tab"] = "Search"
    test.run()
    return test.switch_page("views/surgery.py").run()


@pytest.fixture
def searched(sums_workspace: Workspace, sums_files: Path) -> AppTest:
    test = opened(sums_workspace)
    next(box for box in test.number_input if box.label == "Trials at most").set_value(4)
    group = {each.label: each for each in test.button_group}
    group["What to improve"].set_value(["loss", "protected"])
    group["What to vary"].set_value(["knobs", "strength"]).run()
    test.text_input(key="search-protected").set_value(str(sums_files / "other.jsonl")).run()
    return press(test, "Search")


def test_a_search_fills_the_page_and_its_trials_are_opened_kept_tried_and_barred(searched: AppTest) -> None:
    test, now = searched, searched.session_state["workspace"]
    stored = stored_searches(now.adapter.digest)[0]
    assert [each.outcome for each in stored.trials] == ["measured"] * 4
    table = next(each.value for each in test.dataframe if "outcome" in each.value)
    assert sorted(table["trial"]) == [1, 2, 3, 4]
    assert "4 trials looked at" in " ".join(each.value for each in test.warning)
    assert set(now.chosen) == set(stored.plan.slices.values())
    assert set(now.chosen) <= set(now.recipe.seen)

    trial = stored.trials[2]
    next(box for box in test.selectbox if box.label == "Trial").select(trial.name).run()
    press(test, "Open on the board")
    assert test.session_state["workspace"].plan == trial.plan
    press(test, "Keep as a recipe")
    assert trial.plan in test.session_state["workspace"].shelf.values()

    test.toggle(key="try-trial").set_value(True).run()
    press(test, "Answer")
    answers = test.session_state[f"bench-answered {trial.sigma}"].value
    assert set(answers) == {"unedited", "edited"}


def test_the_front_grows_while_the_search_runs_and_stopping_keeps_what_was_found(
    sums_workspace: Workspace,
) -> None:
    test = opened(sums_workspace)
    next(box for box in test.number_input if box.label == "Trials at most").set_value(500).run()
    next(button for button in test.button if button.label == "Search").click().run()
    ((job, _),) = jobs.jobs().claims(test.session_state["workspace-id"]).values()
    limit = time.monotonic() + 60
    while not any("outcome" in each.value for each in test.dataframe) and time.monotonic() < limit:
        time.sleep(0.1)
        test.run()
    assert job is not None
    assert not job.finished
    seen = len(next(each.value for each in test.dataframe if "outcome" in each.value))
    job.cancel()
    while jobs.jobs().claims(test.session_state["workspace-id"]) and time.monotonic() < limit:
        time.sleep(0.1)
        test.run()
    assert not test.exception
    assert not test.error
    stored = stored_searches(sums_workspace.adapter.digest)[0]
    assert 1 <= seen <= len(stored.trials) < 500
    table = next(each.value for each in test.dataframe if "outcome" in each.value)
    assert len(table) == len(stored.trials)


def test_a_task_is_asked_for_by_its_name_and_a_wrong_one_is_a_message(sums_workspace: Workspace) -> None:
    test = opened(sums_workspace)
    group = {each.label: each for each in test.button_group}
    group["What to improve"].set_value(["task"]).run()

    def search_button():
        return next(button for button in test.button if button.label == "Search")

    assert search_button().disabled
    test.text_input(key="search-task").set_value("arc_easy, shots: 3").run()
    assert any("no setting 'shots'" in error.value for error in test.error)
    test.text_input(key="search-task").set_value("arc_easy").run()
    assert not test.error
    assert not search_button().disabled
