"""Texts that end an answer, whatever tokens they come in."""

from surgery.evaluation import Stops, cut
from tests.helpers.models import tiny_tokenizer


def test_an_answer_ends_with_the_first_token_that_completes_one_of_its_texts():
    tokenizer = tiny_tokenizer()
    stops = Stops(tokenizer, [("..", "END"), ()])
    ids = tokenizer("one..two END", add_special_tokens=False).input_ids
    ended = [length for length in range(1, len(ids) + 1) if stops(0, ids[:length])]
    assert tokenizer.decode(ids[: ended[0]]) == "one.."
    assert not any(stops(1, ids[:length]) for length in range(1, len(ids) + 1))


def test_what_stands_before_the_earliest_text_is_kept():
    assert cut("a; b. c", (".", ";")) == "a"
    assert cut("a b", ("x",)) == "a b"
    assert cut("a b", ()) == "a b"
