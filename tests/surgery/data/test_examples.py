"""Token ids and padded batches, each worked out by hand."""

import pytest

from surgery.data import Calibration, Encoding, Example, Row, encode
from surgery.errors import DataError
from tests.helpers.models import ASSISTANT, BOS, EOS, USER, characters, tiny_tokenizer
from tests.helpers.refusals import refusal

ROWS = [Row(f"{i}+{i}=", str(2 * i)) for i in range(20)]
PLAIN = Encoding(template="plain")


def only(row: Row, encoding: Encoding, tokenizer=None) -> Example:
    calibration = encode([row], tokenizer or tiny_tokenizer(), encoding)
    assert len(calibration.examples) == 1
    return calibration.examples[0]


def test_a_chat_prompt_is_one_user_turn_of_the_template():
    example = only(Row("1+1=", "2"), Encoding())
    # the template holds no <s>, and none is added to it
    assert list(example.prompt_ids) == [USER, *characters("1+1="), ASSISTANT]
    assert list(example.answer_ids) == [*characters(" 2"), EOS]
    assert example.answer == "2"


def test_a_plain_prompt_is_taken_as_it_stands_with_the_tokenizers_own_start():
    assert list(only(Row("1+1=", "2"), PLAIN).prompt_ids) == [BOS, *characters("1+1=")]


def test_a_tokenizer_that_ends_every_text_does_not_end_the_prompt():
    example = only(Row("1+1=", "2"), PLAIN, tiny_tokenizer(append_eos=True))
    assert list(example.prompt_ids) == [BOS, *characters("1+1=")]
    assert list(example.answer_ids) == [*characters(" 2"), EOS]


@pytest.mark.parametrize(
    ("separator", "eos", "expected"),
    [
        (True, True, [*characters(" 42"), EOS]),
        (True, False, characters(" 42")),
        (False, True, [*characters("42"), EOS]),
        (False, False, characters("42")),
    ],
)
def test_separator_and_end_of_sequence_are_options(separator, eos, expected):
    encoding = Encoding(separator=separator, eos=eos)
    assert list(only(Row("q", "42"), encoding).answer_ids) == expected


def test_a_tokenizer_without_end_of_sequence_adds_none():
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    assert list(only(Row("q", "42"), PLAIN, tokenizer).answer_ids) == characters(" 42")


def test_rows_longer_than_the_limit_are_dropped_and_counted():
    rows = [Row("a" * n, "b") for n in (1, 5, 9)]
    # <s>, n letters, a space, b, </s>
    kept = encode(rows, tiny_tokenizer(), Encoding("plain", max_length=9))
    assert [example.length for example in kept.examples] == [5, 9]
    assert kept.dropped == 1
    assert [example.key for example in kept.examples] == [rows[0].key, rows[1].key]


def test_rows_that_are_all_too_long_are_refused():
    assert "all 20 rows are longer than 4 tokens" in refusal(
        DataError, encode, ROWS, tiny_tokenizer(), Encoding("plain", max_length=4)
    )


def test_a_tokenizer_without_chat_template_is_refused_for_chat_only():
    assert "no chat template" in refusal(DataError, encode, ROWS, tiny_tokenizer(chat=False), Encoding())
    assert encode(ROWS, tiny_tokenizer(chat=False), PLAIN).examples


def test_a_chat_template_that_refuses_the_prompt_is_refused_by_us():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('a system turn is needed') }}"
    assert "a system turn is needed" in refusal(DataError, encode, ROWS, tokenizer, Encoding())


def test_an_unknown_template_is_refused():
    assert "'alpaca'" in refusal(DataError, encode, ROWS, tiny_tokenizer(), Encoding("alpaca"))


def test_a_row_without_prompt_tokens_is_refused():
    # nothing would predict the first answer token
    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.backend_tokenizer.post_processor = None
    refusal(DataError, encode, [Row("1+1=", "2"), Row("", "2")], tokenizer, PLAIN)


def test_a_row_without_answer_tokens_is_refused():
    # its loss would be a mean over nothing
    refusal(
        DataError,
        encode,
        [Row("1+1=", "2"), Row("1+1=", "")],
        tiny_tokenizer(),
        Encoding(separator=False, eos=False),
    )


def test_the_digest_is_that_of_what_the_model_sees():
    digest = encode(ROWS, tiny_tokenizer(), Encoding()).digest
    assert encode(list(ROWS), tiny_tokenizer(), Encoding()).digest == digest
    changed = [
        encode(ROWS[::-1], tiny_tokenizer(), Encoding()),
        encode(ROWS[:-1], tiny_tokenizer(), Encoding()),
        encode(ROWS, tiny_tokenizer(), PLAIN),
        encode(ROWS, tiny_tokenizer(), Encoding(separator=False)),
        encode(ROWS, tiny_tokenizer(), Encoding(eos=False)),
    ]
    assert len({digest, *(calibration.digest for calibration in changed)}) == 6
    # a limit that drops nothing changes nothing that the model sees
    assert encode(ROWS, tiny_tokenizer(), Encoding(max_length=50)).digest == digest


def test_the_digest_tells_apart_where_the_prompt_ends():
    one = Example("k", (7, 8), (9,), "a")
    other = Example("k", (7,), (8, 9), "a")
    assert Calibration((one,), PLAIN).digest != Calibration((other,), PLAIN).digest
