"""What training σ found is kept under all that it depends on, read again, and trusted only as it was written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from surgery.data import CalibrationPlan
from surgery.errors import DataError
from surgery.experiments import HeadroomQuestion, Training, TuningSetup, kept_headroom, stored_headrooms
from surgery.files import headrooms_folder
from surgery.progress import Control
from tests.helpers.refusals import refusal
from tests.surgery.experiments.conftest import slice_of

CALIBRATION = slice_of(8, seed=1)
SHORT = Training(epochs=2, learning_rate=0.05, batch_size=4)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path))


@pytest.fixture
def question(shop) -> HeadroomQuestion:
    return HeadroomQuestion(shop.sensitivity.provenance.key, CalibrationPlan("tuning.jsonl", 8), "all", SHORT)


def asked(shop, question: HeadroomQuestion, **options):
    setup = TuningSetup(shop.live, CALIBRATION, shop.sensitivity)
    return kept_headroom(setup, CALIBRATION, question, **options)


def never() -> bool:
    pytest.fail("σ was trained again")


def test_an_answer_is_kept_whole_and_read_in_place_of_training(shop, question) -> None:
    first = asked(shop, question)
    again = asked(shop, question, control=Control(cancelled=never))
    assert first.epoch > 0
    assert replace(again, edit=first.edit) == first
    for name, sigma in first.edit.sigma_after.items():
        np.testing.assert_array_equal(again.edit.sigma_after[name], sigma)
    (stored,) = stored_headrooms(question.measured, shop.spectra)
    assert stored.question == question
    assert replace(stored.found, edit=first.edit) == first
    assert stored_headrooms("another", shop.spectra) == []


def test_another_training_is_another_answer_and_the_newest_comes_first(shop, question) -> None:
    asked(shop, question)
    other = replace(question, training=replace(SHORT, epochs=1))
    asked(shop, other)
    assert [each.question for each in stored_headrooms(question.measured, shop.spectra)] == [other, question]


@pytest.mark.parametrize(
    "change", [("epoch", 1), ("seconds", 0.0), ("tuning", [0.0]), ("schema", 2), ("edit", {})]
)
def test_a_changed_file_is_passed_over_and_measured_anew(shop, question, change) -> None:
    first = asked(shop, question)
    (file,) = headrooms_folder().iterdir()
    record = json.loads(file.read_text())
    name, value = change
    file.write_text(json.dumps({**record, name: value if record[name] != value else 2}))
    assert stored_headrooms(question.measured, shop.spectra) == []
    assert replace(asked(shop, question), edit=first.edit, seconds=first.seconds) == first


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff\xfe"])
def test_a_file_that_is_no_answer_is_passed_over(shop, question, content) -> None:
    headrooms_folder().mkdir()
    (headrooms_folder() / "broken.json").write_bytes(content)
    assert stored_headrooms(question.measured, shop.spectra) == []


def test_rows_that_are_not_those_of_the_sensitivities_are_refused(shop, question) -> None:
    setup = TuningSetup(shop.live, CALIBRATION, shop.sensitivity)
    message = refusal(DataError, kept_headroom, setup, slice_of(8, seed=5), question)
    assert "calibrate again" in message


def test_a_folder_that_cannot_be_written_is_a_message(shop, question, tmp_path: Path) -> None:
    headrooms_folder().write_text("a file in its place")
    refusal(DataError, asked, shop, question)
