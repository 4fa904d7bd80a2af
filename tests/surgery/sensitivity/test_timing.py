"""How long a measurement took, for the next of its kind."""

import json
from dataclasses import replace

import pytest

from surgery.data import Encoding, calibration_rows
from surgery.model import BaseChoice
from surgery.sensitivity import (
    Spent,
    calibration_slice,
    characters,
    known_pace,
    remember_pace,
)
from tests.helpers.models import tiny_tokenizer


def test_the_time_of_the_same_rows_is_that_of_the_run_before(loaded, plan, store):
    base = BaseChoice("some/base")
    rows, calibration = calibration_rows(plan), calibration_slice(loaded, plan)
    tokens = sum(example.length for example in calibration.examples)
    assert known_pace(base, plan) is None
    remember_pace(base, plan, rows, calibration, tiny_tokenizer(), Spent(tokens, 8.0))
    pace = known_pace(base, plan)
    assert pace.tokens_per_second == pytest.approx(tokens / 8)
    assert pace.tokens_per_row == 3  # <u>, <a> and </s>
    assert pace.seconds(len(rows), characters(rows)) == pytest.approx(8)
    assert pace.seconds(2 * len(rows), 2 * characters(rows)) == pytest.approx(16)
    for other_base, other_plan in (
        (replace(base, dtype="bfloat16"), plan),
        (replace(base, device="cuda"), plan),
        (base, replace(plan, checkpointing=True)),
        (base, replace(plan, encoding=Encoding("plain"))),
    ):
        assert known_pace(other_base, other_plan) is None
    assert known_pace(base, replace(plan, seed=9, examples=3)) == pace


@pytest.mark.parametrize("content", ["", "[]", "{", "null", '{"%s": 5}', '{"%s": {"tokens_per_second": 0}}'])
def test_a_damaged_record_of_the_pace_is_no_pace(loaded, plan, store, content):
    base = BaseChoice("some/base")
    calibration = calibration_slice(loaded, plan)
    remember_pace(base, plan, calibration_rows(plan), calibration, tiny_tokenizer(), Spent(100, 1.0))
    file = store.parent / "pace.json"
    (key,) = json.loads(file.read_text())
    file.write_text(content.replace("%s", key))
    assert known_pace(base, plan) is None
    remember_pace(base, plan, calibration_rows(plan), calibration, tiny_tokenizer(), Spent(100, 1.0))
    assert known_pace(base, plan) is not None


def test_a_run_too_short_to_time_leaves_no_pace(loaded, plan, store):
    remember_pace(
        BaseChoice("b"),
        plan,
        calibration_rows(plan),
        calibration_slice(loaded, plan),
        tiny_tokenizer(),
        Spent(9, 0.01),
    )
    assert known_pace(BaseChoice("b"), plan) is None
