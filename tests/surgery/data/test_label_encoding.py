"""Rows with labels as token ids, against the tokenizers' own ids written out by hand."""

import pytest
from transformers import BertTokenizer, PreTrainedTokenizer, RobertaTokenizer

from surgery.data import IGNORED, Encoding, Head, LabelEncoder, Row, label_numbers
from surgery.errors import DataError
from tests.helpers.refusals import refusal

SIDES = Head(("negative", "positive"))
TAGS = Head(("O", "B-ORG", "I-ORG"), words=True)
_BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "fine", "dull", "film", "eu", "re", "##jects", "##x"]
PAD, UNK, CLS, SEP, MASK, FINE, DULL, FILM, EU, RE, JECTS, X = range(len(_BERT))


def bert() -> BertTokenizer:
    return BertTokenizer(vocab={token: number for number, token in enumerate(_BERT)})


PLAIN = Encoding()


def encoded(head, rows, tokenizer=None, encoding=PLAIN):
    encoder = LabelEncoder(tokenizer or bert(), head, encoding, rows)
    return [encoder.example(row) for row in rows]


def test_a_text_has_the_special_tokens_of_its_tokenizer_and_its_label_the_number_of_its_name():
    one, other = encoded(SIDES, [Row.labelled(("fine film",), ("positive",)), Row("dull", "negative")])
    assert (one.prompt_ids, one.segments, one.answer_ids) == ((CLS, FINE, FILM, SEP), (), (1,))
    assert (other.prompt_ids, other.answer_ids) == ((CLS, DULL, SEP), (0,))


def test_two_texts_are_two_segments():
    (pair,) = encoded(SIDES, [Row.labelled(("fine film", "dull"), ("0",))])
    assert pair.prompt_ids == (CLS, FINE, FILM, SEP, DULL, SEP)
    assert pair.segments == (0, 0, 0, 0, 1, 1)


def test_the_first_token_of_every_word_carries_its_tag():
    (row,) = encoded(TAGS, [Row.labelled(("EU", "rejects", "film"), ("B-ORG", "O", "I-ORG"))])
    assert row.prompt_ids == (CLS, EU, RE, JECTS, FILM, SEP)
    assert row.answer_ids == (IGNORED, 1, 0, IGNORED, 2, IGNORED)


def test_two_equal_words_one_after_the_other_carry_a_tag_each():
    (row,) = encoded(TAGS, [Row.labelled(("rejects", "rejects"), ("1", "2"))])
    assert row.answer_ids == (IGNORED, 1, IGNORED, 2, IGNORED, IGNORED)


def test_words_of_a_byte_level_tokenizer_have_a_space_before_them_the_first_one_too():
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "b", "Ġ", "Ġa"]
    tokenizer = RobertaTokenizer(vocab={t: n for n, t in enumerate(pieces)}, merges=[("Ġ", "a")])
    (row,) = encoded(TAGS, [Row.labelled(("ab", "a"), ("O", "B-ORG"))], tokenizer)
    assert row.prompt_ids == (0, 8, 6, 8, 2)
    assert row.answer_ids == (IGNORED, 0, IGNORED, 1, IGNORED)
    assert tokenizer("a").input_ids == [0, 5, 2]  # the tokenizer itself is as it was


def test_labels_are_names_or_numbers_of_the_model():
    assert label_numbers(["positive", "negative"], SIDES) == {"positive": 1, "negative": 0}
    assert label_numbers(["0", "1"], SIDES) == {"0": 0, "1": 1}


def test_numbers_that_name_other_labels_are_told_by_all_rows_together():
    stars = Head(("1", "2", "3"))
    assert label_numbers(["1", "3"], stars) == {"1": 0, "3": 2}
    assert label_numbers(["0", "2"], stars) == {"0": 0, "2": 2}
    assert "both names of the model's labels and numbers" in refusal(DataError, label_numbers, ["1", "2"], stars)
    renamed = Head(("one star", "two stars", "three stars"))
    assert label_numbers(["two stars", "one star"], renamed) == {"two stars": 1, "one star": 0}


def test_a_label_that_the_model_does_not_know_is_refused_with_those_it_does():
    rows = [Row.labelled(("fine",), ("great",)), Row.labelled(("dull",), ("negative",))]
    message = refusal(DataError, encoded, SIDES, rows)
    assert "'great'" in message
    assert "'negative', 'positive'" in message
    assert "numbers from 0 to 1" in message
    assert [row.answer_ids for row in encoded(SIDES, [Row("fine", "1"), Row("dull", "0")])] == [(1,), (0,)]


def test_a_number_beyond_the_labels_is_refused():
    assert "'2' is none of those known" in refusal(DataError, label_numbers, ["0", "2"], SIDES)


def test_names_and_numbers_in_one_slice_are_refused():
    message = refusal(DataError, label_numbers, ["positive", "0"], SIDES)
    assert "write all of them one way" in message


@pytest.mark.parametrize(
    "setting",
    [{"system": "Be brief."}, {"template_args": "{}"}, {"template": "mine.jinja"}, {"separator": True}],
)
def test_what_a_language_model_is_given_besides_the_text_is_refused(setting):
    assert "reads the text alone" in refusal(
        DataError, encoded, SIDES, [Row("fine", "0")], None, Encoding(**setting)
    )
    assert encoded(SIDES, [Row("fine", "0")])


def test_a_row_of_words_for_a_head_of_texts_and_the_other_way_round_are_left_out():
    words, text = Row.labelled(("fine", "film"), ("0", "1")), Row.labelled(("fine film",), ("1",))
    assert "2 labels of 2 texts" in refusal(DataError, encoded, SIDES, [words])
    assert "one label" in refusal(DataError, encoded, SIDES, [words])
    pair = Row.labelled(("fine", "film"), ("1",))
    assert "1 labels for 2 words" in refusal(DataError, encoded, TAGS, [pair])
    assert encoded(SIDES, [text])


def test_a_tokenizer_that_cannot_tell_words_apart_is_refused():
    class Slow(PreTrainedTokenizer):
        vocab_size = 1

        def get_vocab(self):
            return {"a": 0}

        def _tokenize(self, text, **options):
            return ["a"]

        def _convert_token_to_id(self, token):
            return 0

    message = refusal(DataError, encoded, TAGS, [Row.labelled(("a",), ("O",))], Slow())
    assert "does not say which word" in message
