"""The rows of an edit and of its proof, which share none."""

import json

import pytest

from surgery.data import CalibrationPlan, EvaluationPlan, Row, calibration_rows, read_slices
from surgery.errors import DataError
from tests.helpers.refusals import refusal
from tests.helpers.workplace import write_rows

ROWS = [Row(f"{n}=", str(n)) for n in range(20)]


@pytest.fixture
def files(tmp_path):
    return write_rows(tmp_path / "seen.jsonl", ROWS[:12]), write_rows(tmp_path / "held.jsonl", ROWS[12:])


def test_every_slice_has_the_rows_of_its_plan(files):
    seen = [CalibrationPlan(files[0], 5), CalibrationPlan(files[0], 4, start=5)]
    found = read_slices(seen, EvaluationPlan(files[1], limit=3, start=2))
    assert [list(found.seen[plan].rows) for plan in seen] == [calibration_rows(plan) for plan in seen]
    assert found.held_out == tuple(ROWS[14:17])
    assert read_slices(seen).held_out == ()


def test_rows_that_an_edit_has_seen_prove_nothing_whatever_their_file_and_white_space(files, tmp_path):
    again = write_rows(tmp_path / "again.jsonl", [ROWS[15], Row(f" {ROWS[3].prompt}\n", ROWS[3].answer)])
    whole = CalibrationPlan(files[0], 12)
    assert "1 of 2 evaluation rows" in refusal(DataError, read_slices, [whole], EvaluationPlan(again))
    assert read_slices([whole], EvaluationPlan(again, limit=1)).held_out == (ROWS[15],)


def test_a_proof_leaves_no_row_out(files, tmp_path):
    with open(files[1], "a") as file:
        file.write(json.dumps({"prompt": "1", "answer": ""}) + "\n")
    assert "a proof leaves none out" in refusal(DataError, read_slices, [], EvaluationPlan(files[1]))
