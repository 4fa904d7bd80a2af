"""Rows of a text and a label, of two texts, and of words with tags, as well-known data write them."""

import pytest

from surgery.data import Row, RowFields, read_source, shared_keys
from surgery.errors import DataError
from tests.helpers.refusals import refusal
from tests.surgery.data.conftest import write_lines


@pytest.mark.parametrize(
    ("record", "texts", "labels"),
    [
        ({"text": "fine film", "label": 1}, ("fine film",), ("1",)),
        ({"text": "fine film", "label": 1, "label_text": "positive"}, ("fine film",), ("1",)),
        ({"sentence": "fine", "label": "positive", "idx": 0}, ("fine",), ("positive",)),
        ({"review": "dull", "label": False}, ("dull",), ("0",)),
        ({"premise": "p", "hypothesis": "h", "label": 2}, ("p", "h"), ("2",)),
        ({"question": "q", "sentence": "s", "label": 0}, ("q", "s"), ("0",)),
        ({"question": "q", "passage": "s", "label": True}, ("q", "s"), ("1",)),
        ({"sentence1": "a", "sentence2": "b", "label": 0, "text": "t"}, ("a", "b"), ("0",)),
        ({"tokens": ["EU", "rejects"], "ner_tags": [3, 0], "pos_tags": [1, 2]}, ("EU", "rejects"), ("3", "0")),
        ({"words": ["EU"], "labels": ["B-ORG"]}, ("EU",), ("B-ORG",)),
    ],
)
def test_texts_and_labels_are_found_where_well_known_data_have_them(record, texts, labels, tmp_path):
    (row,) = read_source(write_lines(tmp_path / "rows.jsonl", [record])).rows
    assert (row.texts, row.labels) == (texts, labels)


def test_a_table_with_a_column_of_labels_gives_them_as_texts(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\nfine film,1\ndull film,0\n")
    found = read_source(str(tmp_path / "rows.csv"))
    assert [(row.prompt, row.answer, row.labels) for row in found.rows] == [
        ("fine film", "1", ("1",)),
        ("dull film", "0", ("0",)),
    ]


def test_a_labelled_text_is_the_same_example_as_that_prompt_with_that_answer():
    assert shared_keys([Row.labelled(("fine film",), ("1",))], [Row("fine film", "1")])
    assert not shared_keys([Row.labelled(("fine film",), ("1",))], [Row("fine film", "0")])


def test_what_a_row_of_two_texts_or_of_words_says_stands_in_prompt_and_answer():
    """Near-duplicates and what a task asks are looked for there."""
    assert Row.labelled(("p", "h"), ("1",)).prompt == "p\nh"
    words = Row.labelled(("EU", "rejects"), ("B-ORG", "O"))
    assert (words.prompt, words.answer) == ("EU rejects", "B-ORG O")


def test_words_and_tags_in_fields_of_other_names_are_read_when_these_are_named(tmp_path):
    record = {"surface": ["EU", "rejects"], "classes": ["B-ORG", "O"], "tokens": ["x"], "tags": ["y"]}
    file = write_lines(tmp_path / "rows.jsonl", [record])
    (row,) = read_source(file, RowFields("surface", "classes")).rows
    assert (row.texts, row.labels) == (("EU", "rejects"), ("B-ORG", "O"))


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"text": "t", "label": -1}, "empty answer"),
        ({"text": "t", "label": " "}, "empty answer"),
        ({"text": " ", "label": 1}, "empty prompt"),
        ({"text": "t", "label": 0.5}, "unreadable"),
        ({"text": "t", "label": None}, "empty answer"),
        ({"label": 1}, "missing field"),
        ({"text": "\ud800", "label": 1}, "unreadable"),
    ],
)
def test_a_row_without_a_text_or_a_label_is_left_out_and_counted(odd, reason, tmp_path):
    good = [{"text": f"t{n}", "label": n} for n in range(3)]
    found = read_source(write_lines(tmp_path / "rows.jsonl", [*good, odd]), RowFields(format="labelled-text"))
    assert len(found.rows) == 3
    assert found.left_out == {reason: 1}


@pytest.mark.parametrize(
    ("odd", "reason", "said"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "unreadable", "1 tags for 2 words"),
        ({"tokens": ["a", ""], "tags": ["O", "O"]}, "empty prompt", "has no words"),
        ({"tokens": [], "tags": []}, "empty prompt", "has no words"),
        ({"tokens": ["a"], "tags": [-1]}, "empty answer", "has no label"),
        ({"tokens": ["a"]}, "missing field", "has no words with tags"),
    ],
)
def test_words_without_a_tag_each_are_left_out_and_counted(odd, reason, said, tmp_path):
    good = [{"tokens": ["a", "b"], "tags": ["O", "O"]}] * 2
    found = read_source(write_lines(tmp_path / "rows.jsonl", [*good, odd]), RowFields(format="tagged-words"))
    assert len(found.rows) == 2
    assert found.left_out == {reason: 1}
    assert said in found.problem


def test_several_labels_of_one_text_are_refused_and_not_guessed(tmp_path):
    file = write_lines(tmp_path / "rows.jsonl", [{"text": "t", "labels": [0, 1]}])
    assert "name the fields" in refusal(DataError, read_source, file)
