"""Rows that stand in a plain text are found whatever surrounds them, and others are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.data import Row, read_source, read_text, refuse_rows_in_text, rows_in_text
from surgery.errors import DataError
from surgery.files import demo_names, demo_slice
from tests.helpers.refusals import refusal

PLACES = ["harbour", "orchard", "library", "foundry", "meadow", "market", "quarry", "bridge", "mill", "station"]
ROWS = [
    Row(
        f"Question: Which road leads from the {a} to the {b} when the river is high?\nAnswer:",
        f"The road past the old {a} wall, then left at the {b} gate.",
    )
    for a in PLACES
    for b in PLACES
    if a != b
]
OTHER = "A kettle boils sooner when its lid is on, and a pot of soup keeps warm for longer in a box of hay. " * 20


def test_a_text_that_says_none_of_the_rows_holds_none():
    assert rows_in_text(OTHER, ROWS) == []
    # what all rows say, in the words of none of them
    assert rows_in_text(OTHER + "Which road leads from the sea to the hill when the river is high?", ROWS) == []


@given(st.integers(0, len(ROWS) - 1), st.sampled_from(["prompt", "answer"]), st.booleans())
def test_a_prompt_or_an_answer_is_found_in_another_case_and_other_white_space(place, part, shout):
    said = getattr(ROWS[place], part)
    said = "  ".join((said.upper() if shout else said).split(" "))
    assert place in rows_in_text(f"{OTHER} {said} {OTHER}", ROWS)


def test_a_row_without_most_of_its_words_is_not_found():
    said = " ".join(ROWS[5].prompt.split()[:6])
    assert rows_in_text(OTHER + said, ROWS) == []


def test_short_rows_are_told_by_all_their_words_and_sums_by_none():
    rows = [Row("Capital of Burkina Faso?", "Ouagadougou"), Row("3+4=", "7")]
    assert rows_in_text(f"{OTHER} Capital of Burkina Faso? Ouagadougou. 3+4=7", rows) == [0]
    assert rows_in_text(f"{OTHER} The capital of Burkina Faso is Ouagadougou.", rows) == []


def test_a_text_that_holds_rows_is_refused_and_says_which():
    refuse_rows_in_text(OTHER, "a.txt", {"rows.jsonl": ROWS})
    said = refusal(
        DataError, refuse_rows_in_text, f"{OTHER} {ROWS[7].answer}", "a.txt", {"none": [], "rows.jsonl": ROWS}
    )
    assert "'a.txt' holds 1 of 90 rows of 'rows.jsonl'" in said
    assert "row 7" in said


@pytest.mark.parametrize("name", demo_names())
def test_the_demo_text_holds_no_row_of_a_demo(name):
    for part in ("calibration", "test"):
        rows = read_source(demo_slice(f"demo:{name}", part)).rows
        assert rows_in_text(read_text("demo:text"), rows) == []
