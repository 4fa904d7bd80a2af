"""Conversations as templates render them: what is the answer's, where its turn ends, and days that are pinned."""

from surgery.data import Encoding, Example, Message, Row, encode, prints_date, prompt_ids
from surgery.errors import DataError
from tests.helpers.models import ASSISTANT, EOS, USER, characters, tiny_tokenizer
from tests.helpers.refusals import refusal

ROWS = [Row(f"{i}+{i}=", str(2 * i)) for i in range(20)]
PLAIN = Encoding(template="plain")


def only(row: Row, encoding: Encoding, tokenizer=None) -> Example:
    calibration = encode([row], tokenizer or tiny_tokenizer(), encoding)
    assert len(calibration.examples) == 1
    return calibration.examples[0]


def test_a_chat_template_that_refuses_the_prompt_is_refused_by_us():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('a system turn is needed') }}"
    assert "a system turn is needed" in refusal(DataError, encode, ROWS, tokenizer, Encoding())


def test_an_unknown_template_is_refused():
    assert "'alpaca'" in refusal(DataError, encode, ROWS, tiny_tokenizer(), Encoding("alpaca"))


def test_turns_before_the_last_answer_are_the_prompt():
    turns = [
        Message("user", "1+1="),
        Message("assistant", "2"),
        Message("user", "2+2="),
        Message("assistant", "4"),
    ]
    example = only(Row.of(turns), Encoding(system="say"))
    before = [USER, *characters("say"), USER, *characters("1+1="), ASSISTANT, *characters("2"), EOS]
    assert list(example.prompt_ids) == [*before, USER, *characters("2+2="), ASSISTANT]
    assert list(example.answer_ids) == [*characters("4"), EOS]


def test_a_template_file_is_used_instead_of_the_tokenizers(tmp_path):
    file = tmp_path / "own.jinja"
    file.write_text("{% for m in messages %}<a>{{ m.content }}<u>{% endfor %}")
    example = only(Row("1", "2"), Encoding(template=str(file)), tiny_tokenizer(chat=False))
    assert list(example.prompt_ids) == [ASSISTANT, *characters("1"), USER]
    assert list(example.answer_ids) == [ASSISTANT, *characters("2"), USER]
    assert example.end == USER
    missing = Encoding(template=str(tmp_path / "none.jinja"))
    assert "no readable template" in refusal(DataError, encode, [Row("1", "2")], tiny_tokenizer(), missing)


def test_an_end_of_turn_that_is_no_token_of_its_own_is_scored_whole_and_known_as_a_text():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }} end {% endfor %}"
    example = only(Row("1", "2"), Encoding(), tokenizer)
    assert list(example.prompt_ids) == characters("u:1 end ")
    assert list(example.answer_ids) == characters("a:2 end ")
    assert (example.end, example.stop) == (None, "end")


def test_an_answer_that_brings_its_end_of_turn_has_one_end():
    assert only(Row("1", "2</s>"), Encoding()).answer_ids == only(Row("1", "2"), Encoding()).answer_ids


def test_white_space_and_words_that_were_added_to_a_vocabulary_end_nothing():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["\n", "  ", "12"])
    tokenizer.chat_template = "{% for m in messages %}<u>{{ m.content }}\n<a>{% endfor %}"
    example = only(Row("1", "2"), Encoding(), tokenizer)
    assert tokenizer.convert_ids_to_tokens(example.answer_ids) == ["<u>", "2", "\n", "<a>"]
    assert tokenizer.convert_ids_to_tokens(example.end) == "<a>"
    assert only(Row("1=", "12"), PLAIN, tokenizer).answer_ids[-1] == EOS


def test_an_end_of_turn_that_was_added_as_a_word_is_one_all_the_same():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["[end]"])
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}[end] {% endfor %}"
    example = only(Row("1", "2"), Encoding(), tokenizer)
    assert tokenizer.convert_ids_to_tokens(example.answer_ids) == ["2", "[end]"]
    assert tokenizer.convert_ids_to_tokens(example.end) == "[end]"


def test_a_template_that_reads_the_clock_gives_the_same_ids_on_every_day(monkeypatch):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ strftime_now('%d') }}" + tokenizer.chat_template
    assert list(only(Row("1", "2"), Encoding(), tokenizer).prompt_ids[:2]) == characters("26")
    dated = only(Row("1", "2"), Encoding(date="2026-01-31"), tokenizer)
    assert list(dated.prompt_ids[:2]) == characters("31")
    assert prints_date(tokenizer, Encoding())
    assert not prints_date(tiny_tokenizer(), Encoding())
    tokenizer.chat_template = "{% if not date_string is defined %}no{% endif %}{{ date_string }}"
    assert "26 <unk>ul 2024" in tokenizer.decode(prompt_ids("1", tokenizer, Encoding()))
    tokenizer.chat_template = "{% set form = '%d' %}{{ strftime_now(form) }}"
    assert "cannot be pinned" in refusal(DataError, encode, [Row("1", "2")], tokenizer, Encoding())
