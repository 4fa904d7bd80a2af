"""The page opens a folder in the background and says at once where there is nothing."""

from streamlit.testing.v1 import AppTest

from tests.app.many.conftest import APP, after_jobs


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
