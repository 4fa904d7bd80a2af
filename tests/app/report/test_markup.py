"""HTML that no text can break out of, and texts that hide nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.report.markup import Html, element, facts, join, table, told, visible
from tests.app.report.reading import Read


@given(st.text(), st.text())
def test_any_text_stays_the_text_of_its_element(text: str, attribute: str) -> None:
    read = Read(element("p", text, title=attribute))
    assert read.tags == [("p", {"title": visible(attribute)})]
    assert read.text == visible(text)


@given(st.text())
def test_what_is_shown_can_be_written_and_has_no_sign_that_hides(text: str) -> None:
    shown = visible(text)
    shown.encode()
    assert not {"\u202e", "\u2028", "\u2029", "\x00", "\x1b", "\ud800"} & set(shown)
    assert visible("".join(c for c in shown if c.isprintable())) == "".join(c for c in shown if c.isprintable())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("日本 – σ′ ‖ΔW‖ é", "日本 – σ′ ‖ΔW‖ é"),
        ("می‌خواهم 👩‍👧", "می‌خواهم 👩‍👧"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2028b\u2029\ud800\x1b[0m", "a\\u2028b\\u2029\\ud800\\u001b[0m"),
        ("\r", "\\u000d"),
    ],
)
def test_signs_that_a_reader_would_not_see_are_named(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_markup_is_kept_and_text_is_escaped_beside_it() -> None:
    assert join([element("b", "<i>"), " & "]) == "<b>&lt;i&gt;</b> &amp; "
    assert isinstance(join([]), Html)


def test_a_table_names_its_columns_and_its_rows() -> None:
    read = Read(table([{"variant": "<a>", "p": 0.12345}, {"variant": "b", "p": None}], class_="numbers"))
    assert [tag for tag, _ in read.tags][:2] == ["div", "table"]
    assert [attrs.get("scope") for tag, attrs in read.tags if tag == "th"] == ["col", "col", "row", "row"]
    assert read.text == "variantp<a>0.123b–"
    assert Read(facts({"n": float("nan"), "k": 3})).text == "n–k3"


def test_numbers_are_told_as_a_reader_reads_them() -> None:
    assert [told(value) for value in (3, 0.5, float("nan"), None, "x")] == ["3", "0.500", "–", "–", "x"]
