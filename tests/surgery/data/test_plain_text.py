"""Plain text as windows of tokens: which tokens count, with which context, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.data import TextPlan, read_text, text_windows
from surgery.errors import DataError
from surgery.files import DEMO_TEXT
from tests.helpers.models import BOS, characters, tiny_tokenizer
from tests.helpers.refusals import refusal

TOKENIZER = tiny_tokenizer()
LETTERS = "abcdefghijklmnopqrst"


@given(
    st.text(LETTERS, min_size=12, max_size=60),
    st.integers(2, 12).flatmap(lambda window: st.tuples(st.just(window), st.integers(1, window - 1))),
    st.none() | st.integers(1, 5),
    st.booleans(),
)
def test_every_token_from_the_first_windows_end_on_counts_once_with_its_context(text, sizes, limit, starts):
    window, stride = sizes
    tokenizer = TOKENIZER if starts else tiny_tokenizer_without_start()
    found = text_windows(text, tokenizer, TextPlan("", limit, window, stride))
    ids, lead = characters(text), [BOS] if starts else []
    body = window - len(lead)
    counted = [token for example in found.examples for token in example.answer_ids]
    assert counted == ids[body - stride :][: len(counted)]
    assert len(ids) - (body - stride) - len(counted) < stride or len(found.examples) == limit
    for number, example in enumerate(found.examples):
        assert example.tokens == (*lead, *ids[number * stride :][:body])
        assert len(example.answer_ids) == stride
        assert "".join(example.answer.split()) == text[number * stride + body - stride :][:stride]
    assert found.counted == stride * len(found.examples)
    assert found.tokens == len(ids) + len(lead)


def tiny_tokenizer_without_start():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    return tokenizer


def test_an_end_that_the_tokenizer_writes_is_no_token_of_the_text():
    plan = TextPlan("", window=5, stride=2)
    whole = text_windows("abcdefgh", tiny_tokenizer(append_eos=True), plan)
    assert whole == text_windows("abcdefgh", TOKENIZER, plan)


def test_the_digest_follows_the_tokens_and_which_of_them_count():
    plans = [TextPlan("", window=6, stride=2), TextPlan("", window=6, stride=3), TextPlan("", 1, 6, 2)]
    found = [text_windows("abcdefghijk", TOKENIZER, plan).digest for plan in plans]
    found.append(text_windows("abcdefghijl", TOKENIZER, plans[0]).digest)
    assert len(set(found)) == 4
    assert text_windows("abcdefghijk", TOKENIZER, plans[0]).digest == found[0]


def test_the_demo_text_is_prose_of_some_1_500_words():
    text = read_text(DEMO_TEXT)
    assert 1400 < len(text.split()) < 2000
    assert text.isascii()
    assert all(len(paragraph.split()) > 50 for paragraph in text.strip().split("\n\n"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no text"),
        (b" \n\t \n", "holds no text"),
        (b"some\x00 bytes of a program\x01", "is no text"),
        (b"a bell \x07 rings", "is no text: it holds the control character"),
        (b"broken \xc3\x28 letters", "could not be read as text"),
        (b"word " * 40, "has more than 100 characters"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, monkeypatch, content, said):
    monkeypatch.setattr("surgery.data.plain_text._MOST", 100)
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    assert said in refusal(DataError, lambda: read_text(str(file)))


def test_a_file_that_is_not_there_a_folder_and_another_demo_are_refused(tmp_path):
    assert "no file at" in refusal(DataError, lambda: read_text(str(tmp_path / "none.txt")))
    assert "could not be read as text" in refusal(DataError, lambda: read_text(str(tmp_path)))
    assert "use demo:text" in refusal(DataError, lambda: read_text("demo:kinship"))


@pytest.mark.parametrize(("window", "stride"), [(4, 4), (4, 5), (4, 0), (1, 1)])
def test_windows_without_context_and_without_tokens_are_refused(window, stride):
    assert f"windows of {window} tokens every {stride}" in refusal(
        DataError, lambda: TextPlan("", window=window, stride=stride)
    )


def test_counts_of_windows_below_one_are_refused():
    assert "0 windows were asked for" in refusal(DataError, lambda: TextPlan("", 0))
    assert "-1 windows at a time" in refusal(DataError, lambda: TextPlan("", batch_size=-1))


def test_a_text_shorter_than_a_window_and_a_window_longer_than_the_model_are_refused():
    plan = TextPlan("", window=8, stride=2)
    assert "the text has 6 tokens, fewer than a window of 8" in refusal(
        DataError, lambda: text_windows("abcde", TOKENIZER, plan)
    )
    assert "positions for 7" in refusal(DataError, lambda: text_windows("abcdefghijk", TOKENIZER, plan, 7))
    assert len(text_windows("abcdefg", TOKENIZER, plan, 8).examples) == 1


def test_a_text_of_a_single_token_is_refused():
    assert "hardly a token" in refusal(
        DataError, lambda: text_windows("a", tiny_tokenizer_without_start(), TextPlan("", window=2, stride=1))
    )
