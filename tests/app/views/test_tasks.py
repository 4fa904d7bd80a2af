"""The pages on an adapter that is no causal language model's: a tiny T5 from calibration to export, and what is refused."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.state import jobs
from app.state.runs import evaluation_of, runs_of_adapter
from app.state.workspace import Workspace, workspace_for
from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan, EvaluationPlan
from surgery.experiments import EDIT
from surgery.model import BaseChoice
from tests.helpers.models import save_adapter, save_model, tiny_llama
from tests.helpers.seq2seq import KINDS

APP = Path(__file__).resolve().parents[3] / "app"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    base, adapter = KINDS["t5"].save(tmp_path)
    for name, first in (("calibration", 0), ("test", 30)):
        rows = [{"prompt": f"add {n} and {n + 3}", "answer": str(2 * n + 3)} for n in range(first, first + 6)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    opened = workspace_for(str(adapter)).with_base(BaseChoice(str(base)))
    calibration = CalibrationPlan(str(tmp_path / "calibration.jsonl"), examples=6)
    evaluation = EvaluationPlan(str(tmp_path / "test.jsonl"), limit=6, random=1)
    return replace(opened, calibration=calibration, evaluation=evaluation)


def page(name: str, workspace: Workspace) -> AppTest:
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
    test.session_state["workspace"] = workspace
    test.run()
    return test if name == "adapter" else go(test, name)


def go(test: AppTest, name: str) -> AppTest:
    return clean(test.switch_page(f"views/{name}.py").run())


def clean(test: AppTest) -> AppTest:
    assert not test.exception
    assert [error.value for error in test.error] == []
    return test


def press(test: AppTest, label: str) -> AppTest:
    test = clean(next(button for button in test.button if button.label == label).click().run())
    limit = time.monotonic() + 120
    while jobs.jobs().claims(test.session_state["workspace-id"]) and time.monotonic() < limit:
        time.sleep(0.1)
        clean(test.run())
    return test


def texts(test: AppTest) -> str:
    kinds = (test.caption, test.markdown, test.info, test.success, test.warning, test.error)
    return "\n".join(each.value.replace("\\", "") for kind in kinds for each in kind)


def test_a_sequence_to_sequence_adapter_goes_from_calibration_to_an_export(
    workspace: Workspace, tmp_path: Path
) -> None:
    test = page("adapter", workspace)
    assert "A sequence-to-sequence language model · trained on" in texts(test)
    test = go(test, "spectra")
    assert not [box for box in test.selectbox if box.label == "Template"]
    test = press(test, "Calibrate with these settings")
    assert "Measured on 6 examples" in texts(test)
    test = go(test, "surgery")
    (board,) = test.get("bidi_component")
    assert "±" in json.dumps(json.loads(board.proto.json), ensure_ascii=False) or board.proto.json

    test = press(go(test, "evaluate"), "Prove it")
    (run,) = runs_of_adapter(test.session_state["workspace"])
    found = evaluation_of(run)
    assert [metric.name for metric in found.metrics] == ["loss", "exact"]
    assert {EDIT, "random 0"} <= set(found.scores)

    test = go(test, "export")
    test.text_input[0].set_value(str(tmp_path / "edited"))
    test = press(test, "Write and verify")
    test = press(test, "Reload with PEFT and compare")
    assert "Loaded by PEFT, the written folder gives the logits of the live preview" in texts(test)
    assert open_adapter(tmp_path / "edited").task == "SEQ_2_SEQ_LM"


def test_benchmarks_of_lm_eval_are_refused_with_rows_as_the_way_out(workspace: Workspace) -> None:
    measured = press(page("spectra", workspace), "Calibrate with these settings").session_state["workspace"]
    test = page("evaluate", measured)
    test = test.button_group(key="evaluate-on").set_value("Benchmark").run()
    (told,) = [error.value.replace("\\", "") for error in test.error]
    assert "Prompt-and-answer rows on the Evaluate page" in told
    test = clean(test.button_group(key="evaluate-on").set_value("Prompt-and-answer rows").run())
    assert next(button for button in test.button if button.label == "Prove it")


@pytest.mark.parametrize("name", ["spectra", "evaluate", "surgery", "export"])
def test_a_task_that_no_model_is_run_for_is_told_what_still_works(name: str, tmp_path: Path) -> None:
    base = save_model(tiny_llama(), tmp_path / "base")
    folder = save_adapter(tiny_llama(), tmp_path / "adapter", task_type="FEATURE_EXTRACTION")
    test = page("adapter", workspace_for(str(folder)).with_base(BaseChoice(str(base))))
    test = test.switch_page(f"views/{name}.py").run()
    assert not test.exception
    assert "'FEATURE_EXTRACTION'" in texts(test)
    assert "edits by policies that read no sensitivities, and the export work without a run" in texts(test)
    assert not [button for button in test.button if button.label == "Calibrate with these settings"]


def test_such_an_adapter_is_edited_and_exported_on_the_pages(tmp_path: Path) -> None:
    folder = save_adapter(tiny_llama(), tmp_path / "adapter", task_type="FEATURE_EXTRACTION")
    test = page("adapter", workspace_for(str(folder)))
    test = test.switch_page("views/surgery.py").run()
    test = clean(test.button(key="free-rank").click().run())
    test = go(test, "export")
    test.text_input[0].set_value(str(tmp_path / "edited"))
    test = press(test, "Write and verify")
    assert "Written, read back and compared" in texts(test)
    assert not [button for button in test.button if button.label == "Reload with PEFT and compare"]
    assert open_adapter(tmp_path / "edited").task == "FEATURE_EXTRACTION"
