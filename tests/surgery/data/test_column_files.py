"""Words and tags in columns, as CoNLL's files have them."""

import pytest

from surgery.data import read_source


@pytest.mark.parametrize("ending", [".conll", ".iob", ".bio"])
def test_sentences_are_words_of_the_first_column_with_tags_of_the_last(ending, tmp_path):
    text = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n\n\nPeter NNP B-NP B-PER\n. . O O"
    (tmp_path / f"train{ending}").write_text(text)
    found = read_source(str(tmp_path / f"train{ending}"))
    assert [(row.texts, row.labels) for row in found.rows] == [
        (("EU", "rejects"), ("B-ORG", "O")),
        (("Peter", "."), ("B-PER", "O")),
    ]
    assert (found.left_out, found.fields.described) == ({}, "words with tags")


def test_a_sentence_with_a_word_that_has_no_tag_is_left_out_with_its_place(tmp_path):
    (tmp_path / "train.conll").write_text("EU B-ORG\n\nPeter\n. O\n\nBonn B-LOC\n")
    found = read_source(str(tmp_path / "train.conll"))
    assert [row.texts for row in found.rows] == [("EU",), ("Bonn",)]
    assert found.left_out == {"unreadable": 1}
    assert found.problem == "line 3 of 'train.conll' has no tag for 'Peter'"


def test_a_file_without_blank_lines_is_cut_into_rows_that_stay_within_bounds(tmp_path):
    (tmp_path / "long.conll").write_text("a O\n" * ((1 << 16) + 2))
    assert [len(row.texts) for row in read_source(str(tmp_path / "long.conll")).rows] == [1 << 16, 2]
