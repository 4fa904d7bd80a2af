"""The pages on an adapter of a classifier: a tiny BERT from calibration over the board and a proof to the export."""

from dataclasses import replace
from pathlib import Path

import pytest

from app.state.jobs import Models
from app.state.runs import evaluation_of, runs_of_adapter
from app.state.workspace import Workspace, workspace_for
from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan, EvaluationPlan
from surgery.experiments import EDIT
from surgery.model import BaseChoice
from tests.app.views.test_tasks import clean, go, page, press, texts
from tests.helpers.classifiers import KINDS, save_classifier, write_texts, write_words


def workspace_of(task: str, folder: Path) -> Workspace:
    _, base, adapter = save_classifier(KINDS["bert"], folder, task)
    write = write_texts if task == "SEQ_CLS" else write_words
    plan = CalibrationPlan(str(write(folder / "calibration.jsonl", 8)), examples=8)
    # rows as short as these are soon nearly the same as others
    held_out = write(folder / "test.jsonl", 30, start=100)
    proof = EvaluationPlan(str(held_out), limit=25, random=1, near_duplicates="allow")
    opened = workspace_for(str(adapter)).with_base(BaseChoice(str(base)))
    return replace(opened, calibration=plan, evaluation=proof)


@pytest.mark.parametrize(("task", "metric"), [("SEQ_CLS", "accuracy"), ("TOKEN_CLS", "accuracy over words")])
def test_a_classifier_goes_from_calibration_to_an_export(task: str, metric: str, tmp_path: Path) -> None:
    test = page("spectra", workspace_of(task, tmp_path))
    assert not [box for box in test.selectbox if box.label == "Template"]
    test = press(test, "Calibrate with these settings")
    assert "Measured on 8 examples" in texts(test)
    assert "nats per label" in texts(test)
    assert go(test, "surgery").get("bidi_component")

    test = go(test, "evaluate")
    assert "Rows with labels" in texts(test)
    assert not [group for group in test.button_group if group.label == "Held-out slice"]
    assert not [field for field in test.text_area if field.label == "Stop texts"]
    test = press(test, "Prove it")
    (run,) = runs_of_adapter(test.session_state["workspace"])
    found = evaluation_of(run)
    assert [each.title for each in found.metrics] == ["label loss", metric]
    assert {EDIT, "random 0"} <= set(found.scores)
    table = next(each.value for each in test.dataframe if "verdict" in each.value)
    assert {metric, f"Δ {metric}"} <= set(table.columns)
    test = clean(test.button_group(key="evaluate-view").set_value("Answers").run())
    assert not [column for each in test.dataframe for column in each.value if "exact" in column]

    test = go(test, "export")
    test.text_input[0].set_value(str(tmp_path / "edited"))
    test = press(test, "Write and verify")
    test = press(test, "Reload with PEFT and compare")
    assert "Loaded by PEFT, the written folder gives the logits of the live preview" in texts(test)
    assert open_adapter(tmp_path / "edited").task == task


def test_labels_that_the_model_does_not_know_are_told_before_anything_is_measured(tmp_path: Path) -> None:
    workspace = workspace_of("SEQ_CLS", tmp_path)
    rows = tmp_path / "calibration.jsonl"
    rows.write_text(rows.read_text().replace('"label": 0', '"label": "great"'))
    test = page("spectra", workspace)
    next(button for button in test.button if button.label == "Calibrate with these settings").click().run()
    for _ in range(600):
        test.run()
        if test.error:
            break
    (told,) = [error.value.replace("\\", "") for error in test.error]
    assert "'great'" in told
    assert "LABEL_0" in told
    assert "numbers from 0 to 2" in told


def test_adapters_with_heads_of_two_sizes_each_get_the_base_that_they_need(tmp_path: Path) -> None:
    models = Models()
    _, base, folder = save_classifier(KINDS["bert"], tmp_path / "three")
    three = open_adapter(folder)
    five = open_adapter(save_classifier(KINDS["bert"], tmp_path / "five", labels=5)[2])
    choice = BaseChoice(str(base))
    loaded = models.base(choice, three)
    assert len(loaded.labels) == 3
    assert models.base(choice, three) is loaded
    assert len(models.base(choice, five).labels) == 5
