"""Rows as tokens before any weights are loaded: the same examples as a measurement has."""

from dataclasses import replace
from pathlib import Path

import pytest

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan, Encoding, Row, Slice
from surgery.model import BaseChoice, attach, encoding_notes, preview_tokens
from surgery.spectra import decompose
from tests.helpers.classifiers import KINDS, save_classifier
from tests.helpers.models import characters, save_adapter, save_model, tiny_llama, tiny_tokenizer

ROWS = Slice((Row("a+b", "c"), Row("x" * 20, "y"), Row("q?", "z=1")), {"unreadable": 2})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tiny_llama(), tmp_path / "base")
    save_adapter(tiny_llama(), tmp_path / "adapter")
    return tmp_path


@pytest.mark.parametrize("encoding", [Encoding(), Encoding("plain", separator=True), Encoding(max_length=15)])
def test_the_preview_has_the_examples_of_the_measurement(folder: Path, encoding: Encoding) -> None:
    adapter, base = open_adapter(folder / "adapter"), BaseChoice(str(folder / "base"))
    plan = CalibrationPlan("rows", encoding=encoding)
    with attach(adapter, decompose(adapter), base) as live:
        measured = live.encode(ROWS.rows, encoding, left_out=ROWS.left_out)
        notes = encoding_notes(live, plan, ROWS)
    (folder / "base" / "model.safetensors").unlink()
    preview = preview_tokens(adapter, base, plan, ROWS, first=2)
    assert preview.calibration == measured
    assert len(preview.rows) == 2
    for tokens, example in zip(preview.rows, measured.examples, strict=False):
        assert tuple(token.id for token in tokens if not token.scored) == example.prompt_ids
        assert tuple(token.id for token in tokens if token.scored) == example.answer_ids
    # rows left out are told beside them in the result of a measurement
    assert preview.notes[:-1] == notes
    assert "2 unreadable" in preview.notes[-1]


def test_a_row_longer_than_the_models_positions_is_left_out_as_in_the_measurement(folder: Path) -> None:
    long = Slice((Row("a" * 300, "b"), Row("a", "b")), {})
    preview = preview_tokens(
        open_adapter(folder / "adapter"), BaseChoice(str(folder / "base")), CalibrationPlan("rows"), long
    )
    assert preview.calibration.left_out == {"beyond the model's positions": 1}


def test_the_tokenizer_of_the_adapters_folder_is_shown_and_told(folder: Path) -> None:
    mine = tiny_tokenizer()
    mine.chat_template = "{% for m in messages %}<u>{{ m['content'] }}</s>{% endfor %}"
    mine.save_pretrained(folder / "adapter")
    adapter, base = open_adapter(folder / "adapter"), BaseChoice(str(folder / "base"))
    plan = CalibrationPlan("rows")
    own = preview_tokens(adapter, base, plan, ROWS)
    bases = preview_tokens(adapter, base, replace(plan, encoding=Encoding(tokenizer="base")), ROWS)
    ids = [token.id for token in own.rows[0]]
    assert ids == [4, *characters("a+b"), 2, 4, *characters("c"), 2]
    assert any("another chat template" in note for note in own.notes)
    assert not any("tokenizer" in note or "template" in note for note in bases.notes)


@pytest.mark.parametrize("task", ["SEQ_CLS", "TOKEN_CLS"])
def test_the_preview_of_a_classifier_has_its_labels_before_its_weights_are_read(task: str, tmp_path: Path) -> None:
    _, base, folder = save_classifier(KINDS["bert"], tmp_path, task)
    texts, labels = (("fine film",), ("2",)) if task == "SEQ_CLS" else (("fine", "rejects"), ("0", "2"))
    rows = Slice((Row.labelled(texts, labels),), {})
    adapter, choice = open_adapter(folder), BaseChoice(str(base))
    plan = CalibrationPlan("rows")
    with attach(adapter, decompose(adapter), choice) as live:
        measured = live.encode(rows.rows, plan.encoding)
    (base / "model.safetensors").unlink()
    preview = preview_tokens(adapter, choice, plan, rows)
    assert preview.calibration == measured
    assert preview.notes == ()
    (tokens,) = preview.rows
    if task == "SEQ_CLS":
        assert [token.text.strip() for token in tokens[:-1]] == ["[CLS]", "fine", "film", "[SEP]"]
        assert (tokens[-1].text, tokens[-1].name, tokens[-1].scored) == ("2", "label", True)
    else:
        assert [(token.scored, token.name) for token in tokens] == [
            (False, ""),
            (True, "0"),
            (True, "2"),
            (False, ""),
            (False, ""),
            (False, ""),
        ]
