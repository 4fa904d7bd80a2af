"""The rows of a measurement found again by their keys, whatever became of their file."""

import json
from dataclasses import replace

import pytest

from surgery.data import CalibrationPlan, planned_rows, rows_digest, seen_keys
from surgery.errors import DataError
from surgery.sensitivity import measured_rows
from tests.helpers.policies import measured


@pytest.fixture
def source(tmp_path):
    file = tmp_path / "rows.jsonl"

    def write(count):
        rows = [{"prompt": f"question {i}", "answer": f"answer {i}"} for i in range(count)]
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return CalibrationPlan(str(file), examples=6)

    return write


def of(rows):
    return replace(measured({"m": [[1.0]] * len(rows)}), keys=tuple(map(seen_keys, rows)), rows=rows_digest(rows))


def test_rows_come_in_the_order_of_the_measurement(source):
    plan = source(10)
    slice_ = planned_rows(plan)
    # one row gave way to a spare one
    rows = (*slice_.rows[:2], *slice_.rows[3:], slice_.spare[0])
    assert measured_rows(of(rows), plan) == rows


def test_a_row_that_is_gone_is_none(source):
    plan = source(10)
    rows = planned_rows(plan).rows
    found = measured_rows(of(rows), source(8))
    gone = {"question 8", "question 9"}
    assert [row is None for row in found] == [row.prompt in gone for row in rows]
    assert [row for row in found if row] == [row for row in rows if row.prompt not in gone]


def test_without_keys_rows_are_those_of_the_plan_as_long_as_nothing_has_changed(source):
    plan = source(10)
    rows = planned_rows(plan).rows
    old = replace(of(rows), keys=())
    assert measured_rows(old, plan) == rows
    assert measured_rows(replace(old, left_out={"too long": 1}), plan) == (None,) * 6
    assert measured_rows(replace(old, rows="other"), plan) == (None,) * 6


def test_a_source_that_is_gone_is_refused(tmp_path):
    with pytest.raises(DataError):
        measured_rows(measured({"m": [[1.0]]}), CalibrationPlan(str(tmp_path / "nowhere.jsonl")))
