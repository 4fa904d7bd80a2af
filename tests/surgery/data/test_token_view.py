"""Rows as tokens, and every sentence about what is odd with the row that causes it and one that does not."""

from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from surgery.data import APART, Encoding, Message, Row, encode, oddities, token_view
from tests.helpers.models import ASSISTANT, BOS, EOS, USER, characters, tiny_tokenizer

CHAT, PLAIN = Encoding(), Encoding("plain")
ROW = Row("ab", "cd")


def _tokens(row: Row, encoding: Encoding, tokenizer: Any = None) -> list[tuple[int, str, bool, str]]:
    tokenizer = tokenizer or tiny_tokenizer()
    (example,) = encode([row], tokenizer, encoding).examples
    return [(t.id, t.text, t.scored, t.name) for t in token_view(example, tokenizer, encoding)]


def _odd(rows: list[Row], encoding: Encoding, tokenizer: Any = None) -> tuple[str, ...]:
    tokenizer = tokenizer or tiny_tokenizer()
    return oddities(encode(rows, tokenizer, encoding), rows, tokenizer)


def _with_template(text: str) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = text
    return tokenizer


def _bytes() -> PreTrainedTokenizerFast:
    """One token a byte, so that a letter may be in pieces."""
    words = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(words, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    fast.add_special_tokens({"bos_token": "<s>", "eos_token": "</s>"})
    return fast


def test_a_conversation_is_shown_with_what_its_template_writes_and_its_end_is_named() -> None:
    a, b, c, d = characters("abcd")
    assert _tokens(ROW, CHAT) == [
        (USER, "<u>", False, ""),
        (a, "a", False, ""),
        (b, "b", False, ""),
        (ASSISTANT, "<a>", False, ""),
        (c, "c", True, ""),
        (d, "d", True, ""),
        (EOS, "</s>", True, "end of turn, EOS"),
    ]


def test_plain_text_has_a_named_start_and_end() -> None:
    tokens = _tokens(ROW, PLAIN)
    assert tokens[0] == (BOS, "<s>", False, "BOS")
    assert tokens[-1] == (EOS, "</s>", True, "EOS")


def test_an_end_of_turn_that_is_not_the_eos_is_named_by_itself() -> None:
    template = (
        "{% for m in messages %}<u>{{ m['content'] }}<a>{% endfor %}{% if add_generation_prompt %}<u>{% endif %}"
    )
    assert _tokens(ROW, CHAT, _with_template(template))[-1] == (ASSISTANT, "<a>", True, "end of turn")


@pytest.mark.parametrize("make", [tiny_tokenizer, _bytes])
def test_the_texts_of_the_tokens_are_the_text(make: Any) -> None:
    tokenizer = make()
    (example,) = encode([Row("a b: 12", " c =3")], tokenizer, PLAIN).examples
    ids = [*example.prompt_ids, *example.answer_ids]
    texts = "".join(token.text for token in token_view(example, tokenizer, PLAIN))
    assert texts == tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def test_part_of_a_letter_is_shown_by_the_tokenizers_own_name_of_it() -> None:
    tokenizer = _bytes()
    texts = [text for _, text, _, _ in _tokens(Row("a", "é"), PLAIN, tokenizer)]
    assert texts == ["a", *tokenizer.tokenize("é"), "</s>"]
    assert not any("\ufffd" in text for text in texts)


@pytest.mark.parametrize("encoding", [CHAT, PLAIN])
def test_nothing_is_odd_about_ordinary_rows(encoding: Encoding) -> None:
    assert _odd([ROW, Row("x?", "y z")], encoding) == ()


def test_two_starts_of_text_are_told() -> None:
    assert "1 of 2 rows has two BOS ('<s>')" in _odd([ROW, Row("<s>ab", "c")], replace(PLAIN, tokenised=APART))[0]
    assert "1 of 1 rows has two BOS" in _odd([Row("<s><s>ab", "c")], PLAIN)[0]
    assert _odd([Row("<s>ab", "c")], PLAIN) == ()


def test_an_end_that_stands_there_twice_is_told() -> None:
    assert "1 of 1 rows has their end twice" in _odd([Row("ab", "c</s></s>")], CHAT)[0]


def test_an_end_that_is_never_scored_is_told_with_its_cause() -> None:
    assert "switched off (--eos scores it)" in _odd([ROW], replace(PLAIN, eos=False))[0]
    endless = _with_template("{% for m in messages %}<u>{{ m['content'] }}{% endfor %}")
    assert "the template writes none" in _odd([ROW], CHAT, endless)[0]
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    assert "the tokenizer has no end of text" in _odd([ROW], PLAIN, tokenizer)[0]


def test_text_that_is_rendered_already_is_told() -> None:
    rendered = tiny_tokenizer().apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False)
    (note,) = _odd([Row(rendered, "c"), ROW], CHAT)
    assert "1 of 2 rows has the template's own '<u>'" in note
    assert "--template plain" in note
    assert _odd([Row(rendered, "c")], PLAIN) == ()


def test_a_rendering_that_marks_turns_with_plain_text_is_known_too() -> None:
    tokenizer = _with_template("{% for m in messages %}=ABC: {{ m['content'] }}</s>{% endfor %}")
    assert any("'=ABC:'" in note for note in _odd([Row("=ABC: ab", "c")], CHAT, tokenizer))
    assert _odd([ROW], CHAT, tokenizer) == ()


def test_a_thought_in_an_answer_is_no_rendering() -> None:
    tokenizer = _with_template("{# <a> #}{% for m in messages %}<u>{{ m['content'] }}</s>{% endfor %}")
    assert _odd([Row("ab", "<a>c")], CHAT, tokenizer) == ()


def test_what_the_template_opens_for_an_answer_and_rows_lack_is_told() -> None:
    tokenizer = _with_template(
        "{% for m in messages %}<u>{{ m['content'] }}</s>{% endfor %}"
        "{% if add_generation_prompt %}<u><a>{% endif %}"
    )
    (note,) = _odd([ROW], CHAT, tokenizer)
    assert "opens an answer with '<a>', which 1 of 1 rows have not" in note


def test_the_day_that_a_template_prints_is_told() -> None:
    dated = _with_template(
        "{{ strftime_now('%d %m %Y') }}{% for m in messages %}<u>{{ m['content'] }}</s>{% endfor %}"
    )
    (note,) = _odd([ROW], replace(CHAT, date="2020-02-03"), dated)
    assert "2020-02-03 is used (--date)" in note
    read_only = _with_template(
        "{% set d = strftime_now('%d') %}{% for m in messages %}<u>{{ m['content'] }}</s>{% endfor %}"
    )
    assert _odd([ROW], CHAT, read_only) == ()


def test_rows_left_out_are_counted_with_the_reason_of_the_first() -> None:
    (note,) = _odd([ROW, Row("a" * 30, "b")], replace(CHAT, max_length=20))
    assert "1 row left out: 1 too long" in note
    assert "34 tokens long" in note


def test_text_that_the_tokenizer_does_not_know_is_told() -> None:
    assert "does not know" in _odd([Row("Ж", "a")], CHAT)[0]


def test_conversations_of_several_turns_are_looked_at_as_a_whole() -> None:
    turns = [Message("user", "a"), Message("assistant", "<a>"), Message("user", "b"), Message("assistant", "c")]
    assert _odd([Row.of(turns)], CHAT) == ()
    turns[2] = Message("user", "<u>b")
    assert "'<u>'" in _odd([Row.of(turns)], CHAT)[0]
