"""Fields and templates that make a row of a record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.data import (
    Message,
    Row,
    RowFields,
    UnusableRow,
)
from surgery.errors import DataError
from tests.helpers.refusals import refusal
from tests.surgery.data.conftest import QA


def test_a_template_puts_top_level_fields_into_its_text():
    fields = RowFields("{context}\nQ: {question} {{x}}", "{label}")
    row = fields.row({"context": "c", "question": "q?", "label": 3, "other": [1]})
    assert row == Row("c\nQ: q? {x}", "3")
    assert fields.names == ("context", "question", "label")
    assert RowFields("{a}{b}", "a").row({"a": "x", "b": ""}) == Row("x", "x")
    assert RowFields("{a}", "{b}").row({"a": 0.5, "b": True}) == Row("0.5", "true")


@pytest.mark.parametrize("name", ["a.__class__", "a[0]", "a!r", "0", "a:>9", "__init__.__globals__"])
def test_nothing_in_a_template_is_evaluated(name):
    # each is the name of a field, there or not
    fields = RowFields(f"{{{name}}}", "a")
    assert fields.row({name: "field", "a": "x"}).prompt == "field"
    with pytest.raises(UnusableRow) as caught:
        fields.row({"a": "x"})
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
    assert RowFields(template, template).row(record).prompt == expected


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
        QA.row(record)
    assert caught.value.reason == reason


def test_a_conversation_is_a_row_of_its_last_answer_and_the_texts_before_it():
    system, asked, answer = Message("system", "Be brief."), Message("user", "2 + 2?"), Message("assistant", "4")
    row = Row.of([system, asked, answer])
    assert row == Row("Be brief.\n2 + 2?", "4", (system, asked, answer))
    assert Row.of([asked, answer]).messages == (asked, answer)


def test_a_conversation_is_known_by_its_roles_and_contents():
    asked, answer = Message("user", " 2 + 2?\n"), Message("assistant", "4")
    assert Row.of([asked, answer]).key == Row("2 + 2?", "4").key
    others = [
        [asked, answer],
        [Message("system", "2 + 2?"), answer],
        [Message("system", ""), asked, answer],
        [Message("system", "Be brief."), asked, answer],
        [Message("user", "Be brief."), asked, answer],
        [asked, answer, asked, answer],
    ]
    assert len({Row.of(messages).key for messages in others}) == len(others)
