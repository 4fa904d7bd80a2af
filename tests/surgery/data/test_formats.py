"""Formats that records are of, how they are told apart, and that a person's choice comes first."""

import pytest

from surgery.data import FORMATS, Row, RowFields, read_source
from surgery.errors import DataError
from tests.helpers.refusals import refusal
from tests.surgery.data.conftest import write_lines

TALK = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
CHOICES = {"stem": "q", "choices": [{"label": "A", "text": "a"}]}


@pytest.mark.parametrize(
    ("record", "format_", "described"),
    [
        ({"prompt": "q", "answer": "a"}, "fields", "prompt → answer"),
        ({"prompt": "q", "answer": "a", "messages": TALK}, "fields", "prompt → answer"),
        ({"question": "q", "answer": "a"}, "fields", "question → answer"),
        ({"query": "q", "response": "a", "type": "GSM", "original_question": "o"}, "fields", "query → response"),
        ({"lang": "py", "seed": "s", "problem": "q", "solution": "a"}, "fields", "problem → solution"),
        ({"instruction": "q", "response": "a"}, "fields", "instruction → response"),
        ({"task_id": 1, "text": "q", "code": "a", "test_list": ["t"]}, "fields", "text → code"),
        ({"prompt": "q", "canonical_solution": "a", "test": "t"}, "fields", "prompt → canonical_solution"),
        ({"input": "q", "output": "a"}, "fields", "input → output"),
        ({"messages": TALK, "prompt": "q", "prompt_id": "1"}, "messages", "conversations (messages, ShareGPT)"),
        ({"conversations": TALK, "text": "t"}, "messages", "conversations (messages, ShareGPT)"),
        ({"prompt": "q", "completion": "a"}, "prompt-completion", "prompt and completion (TRL)"),
        ({"prompt": TALK[:1], "completion": TALK[1:]}, "prompt-completion", "prompt and completion (TRL)"),
        (
            {"instruction": "q", "input": "", "output": "a", "text": "t"},
            "alpaca",
            "instructions in Alpaca's words",
        ),
        ({"question": CHOICES, "answerKey": "A"}, "multiple-choice", "questions with choices"),
        ({"question": "q", "choices": ["a", "b"], "answer": 0}, "multiple-choice", "questions with choices"),
        ({"text": "t", "meta": {"source": "s"}}, "text", "texts, scored whole"),
        ({"text": "t", "label": 1}, "labelled-text", "texts with labels"),
        ({"premise": "p", "hypothesis": "h", "label": 0, "idx": 3}, "labelled-text", "texts with labels"),
        ({"tokens": ["a", "b"], "ner_tags": [0, 1], "id": "0"}, "tagged-words", "words with tags"),
    ],
)
def test_the_format_is_told_from_the_records_and_shown(record, format_, described, tmp_path):
    found = read_source(write_lines(tmp_path / "rows.jsonl", [record, record]))
    assert len(found.rows) == 2
    assert found.left_out == {}
    assert (found.fields.format, found.fields.described) == (format_, described)
    assert RowFields().rows(record) == list(found.rows[:1])


def test_a_text_alone_is_scored_whole():
    assert RowFields().rows({"text": "once upon"}) == [Row("", "once upon")]


@pytest.mark.parametrize(
    "record",
    [
        {"instruction": "i", "context": "c", "response": "r", "category": "x"},
        {"system_prompt": "s", "question": "q", "response": "r"},
        {"context": "c", "question": "q", "answer": "a"},
        {"text": "t", "label": 1, "context": "c"},
        {"prompt": "p", "chosen": "c", "rejected": "r"},
        {"wish": "w"},
    ],
)
def test_what_would_leave_out_a_part_of_the_rows_is_asked_for_and_not_guessed(record, tmp_path):
    message = refusal(DataError, read_source, write_lines(tmp_path / "rows.jsonl", [record]))
    assert "name the fields" in message
    assert repr(next(iter(record))) in message


def test_the_format_of_most_records_is_taken_and_the_others_are_left_out(tmp_path):
    records = [{"text": "t"}, "{", *[{"question": f"q{n}", "answer": "a"} for n in range(3)], {"text": "t"}]
    found = read_source(write_lines(tmp_path / "rows.jsonl", records))
    assert [row.prompt for row in found.rows] == ["q0", "q1", "q2"]
    assert found.left_out == {"missing field": 2, "unreadable": 1}


def test_a_format_or_fields_that_are_named_are_taken_whatever_the_records_are(tmp_path):
    record = {"text": "t", "code": "c", "messages": TALK, "instruction": "i", "output": "o"}
    file = write_lines(tmp_path / "rows.jsonl", [record])
    assert read_source(file, RowFields(format="text")).rows == (Row("", "t"),)
    assert read_source(file, RowFields("{text}!", "output")).rows == (Row("t!", "o"),)
    assert read_source(file, RowFields("text", "code", "fields")).rows == (Row("t", "c"),)
    assert read_source(file, RowFields("text", "code", "messages")).rows[0].answer == "a"
    message = refusal(DataError, read_source, file, RowFields(format="multiple-choice"))
    assert "another format" in message
    assert "'instruction'" in message
    assert "'prompt'" in refusal(DataError, read_source, file, RowFields(format="fields"))


def test_a_format_that_is_none_is_refused_with_those_that_are():
    message = refusal(DataError, RowFields, format="csv")
    assert all(name in message for name in FORMATS)
    assert "last, all" in refusal(DataError, RowFields, turns="first")


def test_only_the_columns_of_a_format_are_needed():
    for record in (
        {"messages": TALK},
        {"instruction": "i", "output": "o"},
        {"question": CHOICES, "answerKey": "A"},
    ):
        settled = RowFields().of([record])
        others = dict.fromkeys(("extra", *settled.columns))
        assert settled.rows({**others, **record}) == settled.rows(record)
        assert set(record) <= set(settled.columns)
