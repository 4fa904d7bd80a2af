"""The rows of an edit and of its proof, which share none."""

import json

import pytest

from surgery.data import CalibrationPlan, EvaluationPlan, Row, calibration_rows, planned_rows, read_slices
from surgery.errors import DataError
from surgery.files import demo_names
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


def test_a_proof_leaves_rows_out_where_it_is_asked_to_and_counts_them(files):
    with open(files[1], "a") as file:
        file.write(json.dumps({"prompt": "1", "answer": ""}) + "\n")
    message = refusal(DataError, read_slices, [], EvaluationPlan(files[1]))
    assert "1 row left out: 1 empty answer (line 9 of 'held.jsonl'" in message
    assert "--leave-out" in message
    found = read_slices([], EvaluationPlan(files[1], leave_out=True))
    assert found.held_out == tuple(ROWS[12:])
    assert found.left_out == {"empty answer": 1}


def test_the_rows_that_follow_a_slice_in_its_shuffle_are_its_spare_ones(files):
    for start in (0, 4):
        slice_ = planned_rows(CalibrationPlan(files[0], 5, seed=3, start=start))
        whole = planned_rows(CalibrationPlan(files[0], 12 - start, seed=3, start=start))
        assert [*slice_.rows, *slice_.spare] == list(whole.rows)
        assert whole.spare == ()


def test_no_spare_row_belongs_to_another_slice_or_to_the_proof(files):
    plans = [CalibrationPlan(files[0], 3), CalibrationPlan(files[0], 4, start=3)]
    found = read_slices(plans, EvaluationPlan(files[0], limit=2, seed=0, start=10))
    first, second = (found.seen[plan] for plan in plans)
    whole = planned_rows(CalibrationPlan(files[0], 12)).rows
    assert (first.rows, second.rows, found.held_out) == (whole[:3], whole[3:7], whole[10:])
    assert first.spare == second.spare == whole[7:10]


@pytest.mark.parametrize("demo", demo_names())
def test_the_confirmation_rows_of_a_demo_are_apart_from_all_others(demo):
    seen = [CalibrationPlan(f"demo:{demo}/{part}", 256) for part in ("calibration", "tuning")]
    seen.append(CalibrationPlan(f"demo:{demo}/test", 512))
    rows = read_slices(seen, EvaluationPlan(f"demo:{demo}/confirmation")).held_out
    assert len({row.prompt for row in rows}) == 1024
