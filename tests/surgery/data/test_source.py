"""Rows from files, from a demo and from copies of hub datasets: which fields, which files, what is left out."""

import json
from pathlib import Path

import pytest

from surgery.data import (
    Row,
    RowFields,
    read_rows,
    read_source,
)
from surgery.errors import DataError
from surgery.files import data_file
from tests.helpers.refusals import refusal
from tests.surgery.data.conftest import QA

DATASETS = Path(__file__).resolve().parents[4] / "shared" / "data" / "datasets"


def test_a_demo_slice_has_the_rows_of_its_file():
    expected = [Row(r["prompt"], r["answer"]) for r in lines_of(data_file("demo:kinship/calibration"))]
    found = read_source("demo:kinship/calibration")
    assert list(found.rows) == read_rows("demo:kinship/calibration") == expected
    assert found.left_out == {}


def real(name: str) -> Path:
    if not (DATASETS / name).exists():
        pytest.skip(f"no datasets at {DATASETS}")
    return DATASETS / name


def lines_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]


def test_gsm8k_as_a_file_and_as_a_folder_of_splits():
    folder = real("gsm8k")
    expected = tuple(Row(r["question"], r["answer"]) for r in lines_of(folder / "test.jsonl"))
    assert len(expected) == 1319
    assert read_source(str(folder / "test.jsonl"), QA).rows == expected
    assert read_source(f"hub:{folder}:test", QA).rows == expected
    assert len(read_source(f"hub:{folder}:train", QA).rows) == 7473
    assert "'train.jsonl'" in refusal(DataError, read_source, f"hub:{folder}:validation", QA)


def test_humaneval_and_mbpp_by_their_own_fields():
    records = lines_of(real("humaneval") / "HumanEval.jsonl")
    found = read_source(str(DATASETS / "humaneval" / "HumanEval.jsonl"), RowFields("prompt", "canonical_solution"))
    assert found.rows == tuple(Row(r["prompt"], r["canonical_solution"]) for r in records)
    records = lines_of(real("mbpp") / "mbpp.jsonl")
    template = RowFields("{text}\nTask {task_id}.", "code")
    found = read_source(str(DATASETS / "mbpp" / "mbpp.jsonl"), template)
    assert found.rows == tuple(Row(f"{r['text']}\nTask {r['task_id']}.", r["code"]) for r in records)


def test_rows_without_answers_are_no_calibration_rows():
    message = refusal(DataError, read_source, str(real("ifeval") / "input_data.jsonl"))
    assert "'instruction_id_list'" in message
    # a field inside another is not looked for
    assert "'stem'" in refusal(
        DataError, read_source, str(real("commonsenseqa") / "dev_rand_split.jsonl"), RowFields("stem", "answerKey")
    )
