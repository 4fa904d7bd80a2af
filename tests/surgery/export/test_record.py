"""The record beside an export: what it says, and what it refuses to be read from."""

import json
from dataclasses import replace

import numpy as np
import pytest

from surgery.data import CalibrationPlan, Encoding, Row, rows_digest, seen_keys
from surgery.edits import EditPlan
from surgery.errors import DataError
from surgery.export import ExportRecord, dump_record, read_record, record_of
from surgery.model import BaseChoice
from surgery.policies import AbsSelect
from surgery.recipes import Recipe
from surgery.sensitivity import Provenance, Sensitivity
from tests.helpers.refusals import refusal
from tests.helpers.workplace import ROWS, write_rows

PLAN = EditPlan(AbsSelect(amp=1.5), "all", "l2", 0.1, {"layers.0.o_proj": {2: 0.5, 10: 0.0}})
MEASURED = Sensitivity(
    {"m": np.ones((2, 3))}, np.ones(2), Provenance("a", "b", "c", Encoding(), ("m",), "float32")
)


def written(folder, record):
    (folder / "surgery.json").write_text(dump_record(record), encoding="utf-8")
    return read_record(folder)


def test_a_record_reads_back_as_it_was_written(tmp_path):
    keys = tuple(map(seen_keys, ROWS[:2]))
    sensitivity = replace(MEASURED, keys=keys, rows=rows_digest(ROWS[:2]))
    record = record_of("d" * 64, PLAN, sensitivity)
    found = written(tmp_path, record)
    assert (found.adapter, found.edit, found.rows) == ("d" * 64, PLAN, {"calibration": keys})
    assert found.measured["rows"] == rows_digest(ROWS[:2])
    assert found.measured["adapter"] == "a"
    assert {row.key for row in ROWS[:2]} <= found.keys
    assert found.unknown == ()
    assert dump_record(found) == dump_record(record)


def test_rows_of_a_measurement_that_lacks_their_digests_are_read_where_the_source_still_has_them(tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", ROWS[:5])
    plan = CalibrationPlan(data, examples=5)
    recipe = Recipe("adapter", "", BaseChoice("base"), plan, tuning=replace(plan, examples=2, start=3))
    shuffled = [ROWS[i] for i in np.random.default_rng(0).permutation(5)]
    record = record_of("d", PLAN, replace(MEASURED, rows=rows_digest(shuffled)), recipe)
    assert record.rows["calibration"] == tuple(map(seen_keys, shuffled))
    assert record.rows["tuning"] == tuple(map(seen_keys, shuffled[3:]))
    other = record_of("d", PLAN, replace(MEASURED, rows=rows_digest(ROWS[5:9])), replace(recipe, tuning=None))
    assert (dict(other.rows), other.unknown) == ({}, ("calibration",))
    judged = record_of("d", PLAN, MEASURED, replace(recipe, chosen=(replace(plan, examples=1, start=2),)))
    assert judged.rows["chosen 1"] == (seen_keys(shuffled[2]),)
    (tmp_path / "rows.jsonl").unlink()
    gone = record_of("d", PLAN, replace(MEASURED, keys=record.rows["calibration"]), recipe)
    assert (list(gone.rows), gone.unknown) == (["calibration"], ("tuning",))
    assert written(tmp_path, gone).unknown == ("tuning",)


def test_an_edit_that_read_no_gradient_was_made_on_no_rows():
    record = record_of("d", PLAN, None)
    assert (record.keys, record.unknown) == (frozenset(), ())


def test_a_folder_without_a_record_has_none(tmp_path):
    assert read_record(tmp_path) is None


def _with(**changes):
    return lambda record: json.dumps({**record, **changes})


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: "{",
        lambda record: "[" * 100_000,
        lambda record: "[]",
        _with(format="another"),
        _with(rows={"calibration": [["../../etc/passwd"]]}),
        _with(rows={"calibration": "0" * 32}),
        _with(rows=[["0" * 32]]),
        _with(edit={"policy": "no such policy", "manual": {}}),
        _with(edit={"policy": "scale", "manual": {"m": {"x": 1.0}}}),
        _with(measured=3),
    ],
)
def test_a_record_that_cannot_be_read_is_refused_and_never_passed_over(tmp_path, damage):
    record = json.loads(dump_record(ExportRecord("d", PLAN)))
    (tmp_path / "surgery.json").write_text(damage(record), encoding="utf-8")
    assert "cannot be read" in refusal(DataError, read_record, tmp_path)


def test_a_record_in_place_of_which_there_is_a_pipe_is_refused(tmp_path):
    (tmp_path / "surgery.json").mkdir()
    assert "no regular file" in refusal(DataError, read_record, tmp_path)


def test_digests_do_not_depend_on_spaces_around_a_text():
    assert seen_keys(Row(" a b ", "c\n")) == seen_keys(Row("a b", "c"))
