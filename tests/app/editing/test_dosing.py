"""The dose curve of the bench, measured with a real tiny model by one button."""

from pathlib import Path

from streamlit.testing.v1 import AppTest

from app.editing.dosing import dose_table
from app.state.workspace import Workspace
from surgery.evaluation import SAME_NORM
from surgery.experiments import DOSES
from surgery.policies import Scale
from tests.app.editing.conftest import press

APP = Path(__file__).resolve().parents[3] / "app"


def test_one_button_measures_the_grid_of_doses_with_a_scale_at_each(sums_workspace: Workspace) -> None:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    test.session_state["workspace"] = sums_workspace.with_edit("scale", policy=Scale(1.5))
    test.session_state["bench-tab"] = "Dose curve"
    test.run()
    test = test.switch_page("views/surgery.py").run()
    assert not test.exception
    test = press(test, "Measure the dose curve")
    found = test.session_state["bench-dosed"].value
    assert [point.dose for point in found.points] == list(DOSES)
    assert (found.examples, found.control) == (8, SAME_NORM)
    table = next(each.value for each in test.dataframe if "strength" in each.value)
    assert table.equals(dose_table(found))
    # an edit that is a plain scale is its own control
    assert list(table["Δ answer loss, edit"]) == list(table["Δ answer loss, scale"])
    assert table["Δ answer loss, edit"][0] == "+0.0000 ± 0.0000"
    assert test.session_state["workspace"].tuning is not None, "no proof may use these rows from now on"
