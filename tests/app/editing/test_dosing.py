"""The dose curve of the bench, measured with a real tiny model by one button."""

import json
import time
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.editing.dosing import dose_table
from app.state import jobs
from app.state.workspace import Workspace, workspace_for
from surgery.data import CalibrationPlan
from surgery.evaluation import SAME_NORM
from surgery.experiments import DOSES
from surgery.model import BaseChoice
from surgery.policies import Scale
from tests.helpers.models import save_adapter, save_model, tiny_llama

APP = Path(__file__).resolve().parents[3] / "app"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    save_model(tiny_llama(), tmp_path / "base")
    save_adapter(tiny_llama(), tmp_path / "adapter")
    rows = [json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) for a in range(4) for b in range(4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    opened = workspace_for(str(tmp_path / "adapter")).with_edit(
        "scale", policy=Scale(1.5), energy="none", scope="all"
    )
    opened = opened.with_base(BaseChoice(str(tmp_path / "base")))
    calibration = CalibrationPlan(str(tmp_path / "rows.jsonl"), examples=6)
    return type(opened)(**{**vars(opened), "calibration": calibration})


def test_one_button_measures_the_grid_of_doses_with_a_scale_at_each(workspace: Workspace) -> None:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    test.session_state["workspace"] = workspace
    test.session_state["bench-tab"] = "Dose curve"
    test.run()
    test = test.switch_page("views/surgery.py").run()
    assert not test.exception
    next(button for button in test.button if button.label == "Measure the dose curve").click().run()
    limit = time.monotonic() + 60
    while jobs.jobs().claims(test.session_state["workspace-id"]) and time.monotonic() < limit:
        time.sleep(0.1)
        test.run()
    assert not test.exception
    assert not test.error
    found = test.session_state["bench-dosed"].value
    assert [point.dose for point in found.points] == list(DOSES)
    assert (found.examples, found.control) == (6, SAME_NORM)
    table = next(each.value for each in test.dataframe if "strength" in each.value)
    assert table.equals(dose_table(found))
    # an edit that is a plain scale is its own control
    assert list(table["Δ answer loss, edit"]) == list(table["Δ answer loss, scale"])
    assert table["Δ answer loss, edit"][0] == "+0.0000 ± 0.0000"
    assert test.session_state["workspace"].tuning is not None, "no proof may use these rows from now on"
