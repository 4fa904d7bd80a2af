"""Questions of a proof as records: read back as they were written, and refused in one line."""

import json

import pytest

from surgery.data import (
    Encoding,
    EvaluationPlan,
    TaskPlan,
    TextPlan,
    parse_question,
    parse_questions,
    question_name,
    question_record,
)
from surgery.errors import RecipeError
from tests.helpers.refusals import refusal

QUESTIONS = [
    TextPlan("demo:text"),
    TextPlan("a file.txt", 5, window=64, stride=32, batch_size=2),
    TaskPlan("arc_easy", 100, fewshot=0, data_files={"test": "a.parquet"}),
    EvaluationPlan("r.jsonl", 5, divergence=True, margin=("1 point",), encoding=Encoding(separator=True)),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=question_name)
def test_a_question_is_read_as_it_was_written(question):
    record = json.loads(json.dumps(question_record(question)))
    assert parse_question(record, "guard") == question


def test_only_what_is_not_usual_is_written_of_a_text():
    assert question_record(TextPlan("demo:text", window=64, stride=32)) == {
        "text": "demo:text",
        "window": 64,
        "stride": 32,
    }


def test_rows_of_the_first_recipes_are_tokenised_apart():
    assert parse_question({"rows": "r.jsonl"}, "guard", earlier=True).encoding.tokenised == "apart"


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ({"text": "a", "task": "b"}, "names text and task"),
        ({"text": 3}, "guards[0].text cannot be 3"),
        ({"task": 3}, "guards[0]: the name of a task cannot be 3"),
        ({"rows": "a", "window": 3}, "window"),
        ({}, "guards[0] names no question"),
        (["text"], "guards[0] is not a list of names and values"),
    ],
)
def test_what_is_no_question_is_refused_with_its_place(record, why):
    assert why in refusal(RecipeError, parse_questions, [record], "guards")


def test_questions_come_in_a_list():
    assert "guards is no list" in refusal(RecipeError, parse_questions, {"text": "a"}, "guards")
