"""The tab "Training film": made in the background, kept, and told where there is no training."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from surgery.adapter_sets import film_means, open_set, training_film
from tests.app.many.conftest import APP, after_jobs
from tests.helpers.adapter_folders import factors, write_adapter_at

TAB = "Training film"


def shown(test: AppTest) -> AppTest:
    test.session_state["many-tab"] = TAB
    return test.run()


def test_the_film_of_a_training_is_made_unasked_and_only_once(
    page: Callable[[], AppTest], monkeypatch: pytest.MonkeyPatch
):
    test = shown(page())
    assert "decomposed and compared" in test.info[0].value
    after_jobs(test)
    assert not test.exception
    assert not test.info
    made = test.session_state["many-film"]
    adapters = test.session_state["many-set"]
    (checkpoints,) = adapters.trainings.values()
    expected = film_means(training_film(adapters, checkpoints), "norm", "family")
    assert film_means(made.film, "norm", "family").values.tolist() == expected.values.tolist()
    assert made.data["steps"] == [10, 20, 100]
    assert made.name == f"film-{adapters.root.name}-run"
    test.run()
    assert test.session_state["many-film"] is made
    # one that was stopped is made when it is asked for, and one that was made before is found
    monkeypatch.setattr("app.many.film.training_film", None)
    del test.session_state["many-film"]
    (button,) = [each for each in test.run().button if each.label == "Make the film of 3 checkpoints"]
    after_jobs(button.click().run())
    assert test.session_state["many-film"].data == made.data


def test_one_of_several_trainings_is_chosen(tmp_path: Path):
    for run in ("first", "second"):
        for step in (1, 2):
            write_adapter_at(tmp_path / run / f"checkpoint-{step}", factors(2, seed=step + len(run)))
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    test.session_state["many-set"] = open_set(tmp_path)
    after_jobs(shown(test.run().switch_page("views/many.py").run()))
    assert test.session_state["many-film"].name.endswith("-first")
    assert test.selectbox(key="many-training").options == ["first/…", "second/…"]
    after_jobs(test.selectbox(key="many-training").set_value("second/*").run())
    assert test.session_state["many-film"].name.endswith("-second")


def test_a_set_without_a_training_says_what_a_film_needs(tmp_path: Path):
    write_adapter_at(tmp_path / "one", factors(2))
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    test.session_state["many-set"] = open_set(tmp_path)
    shown(test.run().switch_page("views/many.py").run())
    assert "two checkpoints or more" in test.info[0].value
