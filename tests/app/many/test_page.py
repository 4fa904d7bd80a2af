"""The page opens a folder in the background and says at once where there is nothing."""

from streamlit.testing.v1 import AppTest

from surgery.adapter_sets import open_set
from tests.app.many.conftest import APP, after_jobs
from tests.helpers.adapter_folders import factors, write_adapter_at


def opened(text):
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60).run().switch_page("views/many.py").run()
    test.text_input(key="many-folder").set_value(text)
    next(button for button in test.button if button.label == "Open").click()
    return test.run()


def test_a_folder_is_opened_in_the_background(folder, adapters):
    test = opened(str(folder))
    after_jobs(test)
    assert not test.exception
    sound, refused = (
        [each.name for each in adapters.members if bool(each.refusal) == bad] for bad in (False, True)
    )
    assert list(test.dataframe[0].value["adapter"]) == [*sound, *refused]
    assert "5 adapters, 1 refused" in test.caption[1].value


def test_a_folder_without_adapters_is_refused_at_once(tmp_path):
    test = opened(str(tmp_path))
    assert "no adapter below" in test.error[0].value
    assert not test.dataframe


def test_another_set_is_shown_whatever_was_chosen_of_the_one_before(page, tmp_path):
    test = page()
    test.multiselect(key="many-bases").set_value(["made-up/base"])
    test.multiselect(key="many-ranks").set_value([4])
    test.number_input(key="many-energy-k").set_value(4)
    test.run()
    test.session_state["many-tab"] = "Matrix"
    test.run()
    test.multiselect(key="matrix-left-out").set_value(["run/checkpoint-10"]).run()
    assert not test.exception
    for name in ("one", "two"):
        write_adapter_at(tmp_path / name, factors(2, seed=len(name)), base_model_name_or_path="made-up/new")
    test.session_state["many-set"] = open_set(tmp_path)
    test.run()
    assert not test.exception
    assert "Compare 2 adapters" in [button.label for button in test.button]
    test.session_state["many-tab"] = "Table"
    test.run()
    assert not test.exception
    assert list(test.dataframe[0].value["adapter"]) == ["one", "two"]
