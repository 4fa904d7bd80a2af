"""Alpaca's instructions and questions with choices, against the wordings that training and lm-eval use."""

import json

import pytest

from surgery.data import Row, RowFields, UnusableRow, read_source
from tests.surgery.data.test_source import real

ALPACA, CHOICES = RowFields(format="alpaca"), RowFields(format="multiple-choice")


def test_an_instruction_has_one_wording_with_an_input_and_another_without():
    without = {"instruction": "Name a {colour}.", "input": "", "output": "Blue."}
    (row,) = ALPACA.rows(without)
    assert row.answer == "Blue."
    assert row.prompt == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the "
        "request.\n\n### Instruction:\nName a {colour}.\n\n### Response:"
    )
    assert ALPACA.rows({"instruction": "Name a {colour}.", "output": "Blue."}) == [row]
    (row,) = ALPACA.rows({**without, "input": "not red"})
    assert row.prompt == (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\nName a {colour}.\n\n### Input:\n"
        "not red\n\n### Response:"
    )


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"instruction": " ", "output": "b"}, "empty prompt"),
        ({"instruction": "a", "output": ""}, "empty answer"),
        ({"instruction": "a"}, "missing field"),
        ({"instruction": "a", "input": ["x"], "output": {}}, "unreadable"),
        ({"instruction": "a", "output": "b", "history": [["c", "d"]]}, "more than text"),
        ({"instruction": "a", "output": "b", "system": "s"}, "more than text"),
    ],
)
def test_an_instruction_that_is_no_row_says_why(record, reason):
    with pytest.raises(UnusableRow) as caught:
        ALPACA.rows(record)
    assert caught.value.reason == reason


EXPECTED = Row("Question: Why?\nA. one\nB. two\nAnswer:", "B")
LISTED = [{"label": "A", "text": "one"}, {"label": "B", "text": "two"}]
COLUMNS = {"label": ["A", "B"], "text": ["one", "two"]}


@pytest.mark.parametrize(
    "record",
    [
        {"question": {"stem": " Why?", "choices": LISTED}, "answerKey": "B"},
        {"question": "Why?", "choices": COLUMNS, "answerKey": "B"},
        {"question_stem": "Why?", "choices": COLUMNS, "answerKey": "B", "id": "7"},
        {"question": "Why?", "choices": ["one", "two"], "answer": 1, "subject": "s"},
    ],
)
def test_a_question_with_choices_is_asked_as_lm_eval_asks_it(record):
    assert CHOICES.rows(record) == RowFields().rows(record) == [EXPECTED]


def test_commonsenseqa_is_asked_with_lm_evals_own_template():
    jinja2 = pytest.importorskip("jinja2")
    file = real("commonsenseqa") / "dev_rand_split.jsonl"
    # lm_eval/tasks/commonsense_qa/default.yaml, doc_to_text
    template = jinja2.Template(
        "Question: {{ question.strip() }}\nA. {{choices['text'][0]}}\nB. {{choices['text'][1]}}\n"
        "C. {{choices['text'][2]}}\nD. {{choices['text'][3]}}\nE. {{choices['text'][4]}}\nAnswer:"
    )
    records = [json.loads(line) for line in file.read_text().splitlines()]
    found = read_source(str(file))
    assert found.left_out == {}
    for row, record in zip(found.rows, records, strict=True):
        texts = [choice["text"] for choice in record["question"]["choices"]]
        asked = template.render(question=record["question"]["stem"], choices={"text": texts})
        assert row == Row(asked, record["answerKey"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"answerKey": ""}, "empty answer"),
        ({"answerKey": None}, "empty answer"),
        ({"answerKey": "C"}, "unreadable"),
        ({"answerKey": ["A"]}, "unreadable"),
        ({"question": ""}, "empty prompt"),
        ({"choices": None}, "missing field"),
        ({"choices": {"label": ["A"], "text": ["one", "two"]}}, "missing field"),
        ({"choices": [{"label": 1, "text": "one"}]}, "missing field"),
    ],
)
def test_a_question_that_is_no_row_says_why(changes, reason):
    with pytest.raises(UnusableRow) as caught:
        CHOICES.rows({"question": "Why?", "choices": COLUMNS, "answerKey": "B", **changes})
    assert caught.value.reason == reason
