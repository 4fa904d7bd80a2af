"""The search of the bench on a real tiny model: ticked, run, opened, kept, tried, and barred from its proof."""

import json
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.state import jobs
from app.state.workspace import Workspace, workspace_for
from surgery.data import CalibrationPlan
from surgery.experiments.search import stored_searches
from surgery.model import BaseChoice
from surgery.policies import Scale
from tests.helpers.models import save_adapter, save_model, tiny_llama

APP = Path(__file__).resolve().parents[3] / "app"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    save_model(tiny_llama(), folder / "base")
    save_adapter(tiny_llama(), folder / "adapter")
    for name, sign in (("rows", "+"), ("other", "-")):
        rows = [json.dumps({"prompt": f"{a}{sign}{b}=", "answer": str(a * b)}) for a in range(5) for b in range(5)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    return folder


@pytest.fixture
def workspace(files: Path) -> Workspace:
    opened = workspace_for(str(files / "adapter")).with_edit(
        "scale", policy=Scale(0.9), energy="none", scope="all"
    )
    opened = opened.with_base(BaseChoice(str(files / "base")))
    calibration = CalibrationPlan(str(files / "rows.jsonl"), examples=8)
    return type(opened)(**{**vars(opened), "calibration": calibration})


def opened(workspace: Workspace) -> AppTest:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    test.session_state["workspace"] = workspace
    test.session_state["bench-tab"] = "Search"
    test.run()
    return test.switch_page("views/surgery.py").run()


def press(test: AppTest, label: str) -> AppTest:
    next(button for button in test.button if button.label == label).click().run()
    limit = time.monotonic() + 60
    while jobs.jobs().claims(test.session_state["workspace-id"]) and time.monotonic() < limit:
        time.sleep(0.1)
        test.run()
    assert not test.exception
    assert not test.error
    return test


@pytest.fixture
def searched(workspace: Workspace, files: Path) -> AppTest:
    test = opened(workspace)
    next(box for box in test.number_input if box.label == "Trials at most").set_value(4)
    group = {each.label: each for each in test.button_group}
    group["What to improve"].set_value(["loss", "protected"])
    group["What to vary"].set_value(["knobs", "strength"]).run()
    test.text_input(key="search-protected").set_value(str(files / "other.jsonl")).run()
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
