"""Fields, ways and templates that give the texts of a record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.data import Row, RowFields, UnusableRow
from surgery.errors import DataError
from tests.helpers.refusals import refusal
from tests.surgery.data.conftest import QA


def row_of(fields: RowFields, record) -> Row:
    """The one row of a record."""
    (row,) = fields.rows(record)
    return row


def test_a_template_puts_top_level_fields_into_its_text():
    fields = RowFields("{context}\nQ: {question} {{x}}", "{label}")
    row = row_of(fields, {"context": "c", "question": "q?", "label": 3, "other": [1]})
    assert row == Row("c\nQ: q? {x}", "3")
    assert fields.columns == ("context", "question", "label")
    assert row_of(RowFields("{a}{b}", "a"), {"a": "x", "b": ""}) == Row("x", "x")
    assert row_of(RowFields("{a}", "{b}"), {"a": 0.5, "b": True}) == Row("0.5", "true")


@pytest.mark.parametrize("name", ["a.__class__", "a[0]", "a!r", "0", "a:>9", "__init__.__globals__"])
def test_nothing_in_a_template_is_evaluated(name):
    # each is the name of a field, there or not
    fields = RowFields(f"{{{name}}}", "a")
    assert row_of(fields, {name: "field", "a": "x"}).prompt == "field"
    with pytest.raises(UnusableRow) as caught:
        row_of(fields, {"a": "x"})
    assert caught.value.reason == "missing field"


@pytest.mark.parametrize("text", ["", "  ", "{", "}", "{a", "a}", "{}", "{ }", "{{a}}", "{a}{"])
def test_a_template_that_cannot_be_read_is_refused(text):
    refusal(DataError, RowFields, text)
    refusal(DataError, RowFields, "prompt", text)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="{}"), min_size=1).filter(str.strip), st.text(), min_size=1
    )
)
def test_a_template_of_every_field_joins_their_texts_whatever_they_hold(record):
    template = "<" + "|".join(f"{{{name}}}" for name in record) + ">"
    expected = "<" + "|".join(record.values()) + ">"
    try:
        expected.encode()
    except UnicodeEncodeError:
        return
    assert row_of(RowFields(template, template), record).prompt == expected


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"question": "q"}, "missing field"),
        ({"answer": "a"}, "missing field"),
        ({"question": "", "answer": "a"}, "empty prompt"),
        ({"question": "q", "answer": " \n"}, "empty answer"),
        ({"question": "q", "answer": None}, "empty answer"),
        ({"question": "q", "answer": 4}, "unreadable"),
        ({"question": ["q"], "answer": "a"}, "unreadable"),
        ({"question": "\ud800", "answer": "a"}, "unreadable"),
        (["q", "a"], "unreadable"),
        ("q", "unreadable"),
    ],
)
def test_a_record_that_is_no_row_says_why(record, reason):
    with pytest.raises(UnusableRow) as caught:
        row_of(QA, record)
    assert caught.value.reason == reason


NESTED = {
    "question": {"stem": "Why?", "choices": [{"label": "A", "text": "one"}, {"label": "B", "text": "two"}]},
    "tags": ["x", 2, True],
    "answerKey": "B",
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{question.stem}", "Why?"),
        ("{question.choices.1.text}", "two"),
        ("{question.choices.text}", "one\ntwo"),
        ("{tags}", "x\n2\ntrue"),
        ("{tags.0}", "x"),
        ("{question.stem} {question.choices.label} {answerKey}", "Why? A\nB B"),
    ],
)
def test_a_template_reaches_into_fields_and_lists(template, expected):
    fields = RowFields(template, "answerKey")
    assert row_of(fields, NESTED) == Row(expected, "B")
    # of a table of columns, these are enough
    assert row_of(fields, {name: NESTED.get(name) for name in fields.columns if name in NESTED}) == Row(
        expected, "B"
    )


def test_a_name_alone_reaches_into_fields_too_and_the_field_of_that_very_name_wins():
    assert row_of(RowFields("question.stem", "answerKey"), NESTED).prompt == "Why?"
    assert row_of(RowFields("question.stem", "answerKey"), {**NESTED, "question.stem": "own"}).prompt == "own"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("{question.other}", "missing field"),
        ("{question.choices.2.text}", "missing field"),
        ("{question.choices.other}", "missing field"),
        ("{question.stem.0}", "missing field"),
        ("{question.choices.99999999999999999999}", "missing field"),
        ("{question}", "unreadable"),
        ("{question.choices}", "unreadable"),
        ("tags", "unreadable"),
    ],
)
def test_a_way_that_leads_to_no_text_says_why(name, reason):
    with pytest.raises(UnusableRow) as caught:
        RowFields(name, "answerKey").rows(NESTED)
    assert caught.value.reason == reason
