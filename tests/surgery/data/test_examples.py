"""Token ids and padded batches, each worked out by hand."""

from dataclasses import replace

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from surgery.data import (
    APART,
    Calibration,
    Encoding,
    Example,
    Message,
    Row,
    RowFields,
    encode,
    read_source,
)
from surgery.errors import DataError
from tests.helpers.models import ASSISTANT, BOS, EOS, USER, characters, tiny_tokenizer
from tests.helpers.refusals import refusal

ROWS = [Row(f"{i}+{i}=", str(2 * i)) for i in range(20)]
PLAIN = Encoding(template="plain")


def only(row: Row, encoding: Encoding, tokenizer=None) -> Example:
    calibration = encode([row], tokenizer or tiny_tokenizer(), encoding)
    assert len(calibration.examples) == 1
    return calibration.examples[0]


def dropping_unknown(tokenizer):
    """The tokenizer with letters it does not know left out of texts, as some vocabularies do."""
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("é", "")
    return tokenizer


def test_a_chat_prompt_is_one_user_turn_of_the_template():
    example = only(Row("1+1=", "2"), Encoding())
    # the template holds no <s>, and none is added to it
    assert list(example.prompt_ids) == [USER, *characters("1+1="), ASSISTANT]
    assert list(example.answer_ids) == [*characters("2"), EOS]
    assert (example.answer, example.end) == ("2", EOS)


def test_a_plain_prompt_is_taken_as_it_stands_with_the_tokenizers_own_start():
    assert list(only(Row("1+1=", "2"), PLAIN).prompt_ids) == [BOS, *characters("1+1=")]


def test_a_tokenizer_that_ends_every_text_does_not_end_the_prompt():
    example = only(Row("1+1=", "2"), PLAIN, tiny_tokenizer(append_eos=True))
    assert list(example.prompt_ids) == [BOS, *characters("1+1=")]
    assert list(example.answer_ids) == [*characters("2"), EOS]


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
    assert list(only(Row("q", "42"), PLAIN, tokenizer).answer_ids) == characters("42")


def test_rows_longer_than_the_limit_are_dropped_and_counted():
    rows = [Row("a" * n, "b") for n in (1, 5, 9)]
    # <s>, n letters, b, </s>
    kept = encode(rows, tiny_tokenizer(), Encoding("plain", max_length=8))
    assert [example.length for example in kept.examples] == [4, 8]
    assert kept.dropped == 1
    assert [example.key for example in kept.examples] == [rows[0].key, rows[1].key]


def test_rows_that_are_all_too_long_are_refused():
    assert "none of 20 rows can be used: a row is 7 tokens long, and the limit is 4" in refusal(
        DataError, encode, ROWS, tiny_tokenizer(), Encoding("plain", max_length=4)
    )


def test_a_tokenizer_without_chat_template_is_refused_for_chat_only():
    assert "no chat template" in refusal(DataError, encode, ROWS, tiny_tokenizer(chat=False), Encoding())
    assert encode(ROWS, tiny_tokenizer(chat=False), PLAIN).examples


def test_a_row_without_prompt_tokens_is_left_out():
    # nothing would predict the first answer token
    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.backend_tokenizer.post_processor = None
    found = encode([Row("1+1=", "2"), Row("12", "12")], tokenizer, replace(PLAIN, eos=False))
    assert found.dropped == 0
    found = encode([Row("1+1=", "2"), Row("é", "2")], dropping_unknown(tokenizer), PLAIN)
    assert found.left_out == {"empty prompt": 1}
    assert "has no tokens" in found.problem


def test_a_row_without_answer_tokens_is_left_out():
    # its loss would be a mean over nothing
    rows = [Row("1+1=", "2"), Row("1+1=", "")]
    found = encode(rows, tiny_tokenizer(), Encoding(eos=False))
    assert (len(found.examples), found.left_out) == (1, {"empty answer": 1})
    assert "none of 1 rows" in refusal(DataError, encode, rows[1:], tiny_tokenizer(), Encoding(eos=False))


def test_a_text_alone_is_scored_from_its_second_token_on():
    example = only(Row("", "1+1=2"), PLAIN)
    assert list(example.prompt_ids) == [BOS]
    assert list(example.answer_ids) == [*characters("1+1=2"), EOS]
    # under a chat template, too: it has no turns
    assert only(Row("", "1+1=2"), Encoding()) == example
    without_start = tiny_tokenizer()
    without_start.backend_tokenizer.post_processor = None
    assert list(only(Row("", "1+1=2"), PLAIN, without_start).prompt_ids) == characters("1")


def test_a_text_that_holds_its_start_or_its_end_gets_no_second_one():
    example = only(Row("<s>1+1=", "2</s>"), PLAIN)
    assert list(example.prompt_ids + example.answer_ids) == [BOS, *characters("1+1=2"), EOS]
    assert example.end == EOS
    rendered = only(Row("<u>1+1=<a>", "2</s>"), PLAIN)
    assert list(rendered.answer_ids) == [*characters("2"), EOS]


def test_rows_that_are_left_out_are_replaced_from_the_spare_ones_in_their_order():
    rows = [Row("a" * n, "b") for n in (1, 30, 2, 40)]
    spare = iter([Row("a" * n, "b") for n in (50, 3, 4, 5)])
    found = encode(rows, tiny_tokenizer(), Encoding(max_length=9), spare=spare)
    assert [len(example.prompt_ids) - 2 for example in found.examples] == [1, 2, 3, 4]
    assert found.left_out == {"too long": 3}
    assert len(list(spare)) == 1  # no more than were needed


def test_rows_beyond_the_models_positions_are_left_out_with_that_reason():
    found = encode([Row("a", "b"), Row("a" * 30, "b")], tiny_tokenizer(), Encoding(), positions=20)
    assert found.left_out == {"beyond the model's positions": 1}
    assert "34 tokens" in found.problem
    assert "positions for 20" in found.problem


def test_a_conversation_under_the_plain_template_is_left_out_and_the_way_out_said():
    row = Row.of([Message("user", "1"), Message("assistant", "2")])
    assert "no roles" in refusal(DataError, encode, [row], tiny_tokenizer(), PLAIN)


def test_the_rule_of_earlier_versions_tokenises_prompt_and_answer_apart():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}<u>{{ m.content }}{% endfor %}<a>"
    example = only(Row("1+1=", "2"), Encoding(separator=True, tokenised=APART), tokenizer)
    assert list(example.prompt_ids) == [USER, *characters("1+1="), ASSISTANT]
    assert list(example.answer_ids) == [*characters(" 2"), EOS]


def test_the_digest_is_that_of_what_the_model_sees():
    digest = encode(ROWS, tiny_tokenizer(), Encoding()).digest
    assert encode(list(ROWS), tiny_tokenizer(), Encoding()).digest == digest
    changed = [
        encode(ROWS[::-1], tiny_tokenizer(), Encoding()),
        encode(ROWS[:-1], tiny_tokenizer(), Encoding()),
        encode(ROWS, tiny_tokenizer(), PLAIN),
        encode(ROWS, tiny_tokenizer(), Encoding(separator=True)),
        encode(ROWS, tiny_tokenizer(), Encoding(eos=False)),
    ]
    assert len({digest, *(calibration.digest for calibration in changed)}) == 6
    # a limit that drops nothing changes nothing that the model sees
    assert encode(ROWS, tiny_tokenizer(), Encoding(max_length=50)).digest == digest


def test_the_digest_tells_apart_where_the_prompt_ends():
    one = Example("k", (7, 8), (9,), "a")
    other = Example("k", (7,), (8, 9), "a")
    assert Calibration((one,), PLAIN).digest != Calibration((other,), PLAIN).digest


def metaspace_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of sentencepiece's kind: spaces are ▁, and every text begins with one."""
    pieces = [
        "<s>",
        "</s>",
        "<unk>",
        "▁",
        "▁gr",
        "and",
        "rand",
        "▁gra",
        "nd",
        "g",
        "r",
        "a",
        "n",
        "d",
        ":",
        "▁grand",
    ]
    tokenizer = Tokenizer(models.Unigram([(p, -float(len(pieces) - i)) for i, p in enumerate(pieces)], unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.mark.parametrize(("prompt", "answer"), [("and gr", "and"), ("gr and:", " grand"), ("grand: ", "grand")])
def test_a_dummy_prefix_stands_at_the_start_of_the_text_and_nowhere_inside(prompt, answer):
    tokenizer = metaspace_tokenizer()
    example = only(Row(prompt, answer), PLAIN, tokenizer)
    ids = [*example.prompt_ids, *example.answer_ids]
    assert ids == [*tokenizer(prompt + answer).input_ids, tokenizer.eos_token_id]
    assert tokenizer.decode(ids, skip_special_tokens=True) == prompt + answer
    apart = only(Row(prompt, answer), replace(PLAIN, tokenised=APART, separator=True), tokenizer)
    assert [*apart.prompt_ids, *apart.answer_ids] != ids


def test_a_row_with_a_label_is_refused_for_a_language_model_and_read_when_its_fields_are_named(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "ab", "label": 1}\n')
    message = refusal(DataError, encode, read_source(str(file)).rows, tiny_tokenizer(), Encoding("plain"))
    assert "a text with a label, and the adapter is of a language model" in message
    assert "--prompt-field text --answer-field {label}" in message
    (example,) = encode(
        read_source(str(file), RowFields("text", "{label}")).rows, tiny_tokenizer(), Encoding("plain")
    ).examples
    assert example.answer == "1"


def test_a_classifiers_row_has_its_label_in_place_of_an_answer_and_no_tokens_of_it():
    rows = [Row.labelled(("ab",), ("yes",)), Row.labelled(("abc",), ("no",))]
    found = encode(rows, tiny_tokenizer(), Encoding(max_length=3), task="SEQ_CLS", labels=("no", "yes"))
    (example,) = found.examples
    assert (example.tokens, example.answer_ids, example.answer) == ((BOS, *characters("ab")), (1,), "yes")
    assert (example.length, example.span) == (3, 3)
    assert found.left_out == {"too long": 1}
    assert found.encoding.template == "plain"
