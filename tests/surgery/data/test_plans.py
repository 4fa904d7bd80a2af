"""Plans of slices as records and back, and what a record cannot hold."""

import pytest

from surgery.data import CalibrationPlan, Encoding, EvaluationPlan, Row, parse_plan, plan_record, rows_digest
from surgery.errors import RecipeError
from tests.helpers.refusals import refusal

PLANS = [
    CalibrationPlan("rows.jsonl"),
    CalibrationPlan("rows.jsonl", 7, 3, 2, 1, checkpointing=True, encoding=Encoding("plain", max_length=9)),
    CalibrationPlan("rows.jsonl", format="messages", turns="all"),
    EvaluationPlan("rows.jsonl", limit=None, seed=4, again=False, prompt_field="{q} {r}", answer_field="a"),
    EvaluationPlan("saved:test", format="text", leave_out=True),
]


@pytest.mark.parametrize("plan", PLANS)
def test_the_record_of_a_plan_is_that_plan_and_flat(plan):
    record = plan_record(plan)
    assert parse_plan(type(plan), record, "here") == plan
    assert not [value for value in record.values() if isinstance(value, dict)]


def test_a_plan_of_earlier_settings_has_the_record_that_it_had_then():
    later = {"format", "turns", "leave_out"}
    assert not later & {*plan_record(CalibrationPlan("rows.jsonl")), *plan_record(EvaluationPlan("rows.jsonl"))}
    assert plan_record(EvaluationPlan("rows.jsonl"))["limit"] is None
    changed = plan_record(EvaluationPlan("rows.jsonl", format="text", turns="all", leave_out=True))
    assert later <= set(changed)


def test_what_a_record_leaves_out_has_its_default():
    assert parse_plan(CalibrationPlan, {"data": "rows.jsonl"}, "here") == PLANS[0]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"examples": 0}, "examples"),
        ({"examples": True}, "examples"),
        ({"examples": 2.0}, "examples"),
        ({"batch_size": -1}, "batch_size"),
        ({"seed": 2**64}, "seed"),
        ({"template": "other"}, "template"),
        ({"eos": 1}, "eos"),
        ({"format": "csv"}, "format"),
        ({"turns": "first"}, "turns"),
        ({"leave_out": True}, "leave_out"),
        ({"prompt_field": "{"}, "here"),
        ({"other": 1}, "other"),
        ({"data": None}, "data"),
    ],
)
def test_a_setting_of_another_type_or_out_of_range_is_named(changes, word):
    assert word in refusal(RecipeError, parse_plan, CalibrationPlan, {"data": "rows.jsonl", **changes}, "here")


def test_a_plan_without_data_or_without_settings_is_refused():
    assert "lacks 'data'" in refusal(RecipeError, parse_plan, EvaluationPlan, None, "evaluation")
    refusal(RecipeError, parse_plan, EvaluationPlan, ["data"], "evaluation")


def test_the_digest_of_rows_is_that_of_their_texts_in_order():
    first, second = Row("1+1=", "2"), Row("1+2=", "3")
    assert rows_digest([first, second]) == rows_digest([Row(" 1+1=", "2"), second])
    assert len({rows_digest(rows) for rows in ([first, second], [second, first], [first], [])}) == 4
