"""Prompts and answers for sequence-to-sequence models against what their own tokenizers give to inputs and targets."""

import pytest
from transformers import NllbTokenizer

from surgery.data import Encoding, Message, Row, encode, oddities, prompt_ids, specimen
from surgery.errors import DataError
from tests.helpers.seq2seq import ENGLISH, FRENCH, KINDS, nllb_tokenizer

TASK = "SEQ_2_SEQ_LM"
ROW = Row("ab 12", "c 3")


AS_IT_STANDS = Encoding()


def example_of(row, tokenizer, encoding=AS_IT_STANDS):
    return encode([row], tokenizer, encoding, task=TASK).examples[0]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_ids_are_those_of_the_tokenizer_for_an_input_and_a_target(kind):
    example, tokenizer = example_of(ROW, kind.tokenizer()), kind.tokenizer()
    assert list(example.prompt_ids) == tokenizer("ab 12").input_ids
    assert list(example.answer_ids) == tokenizer(text_target="c 3").input_ids
    assert example.end == tokenizer.eos_token_id
    assert prompt_ids("ab 12", kind.tokenizer(), Encoding(), TASK) == list(example.prompt_ids)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_without_its_end_an_answer_has_the_same_ids_but_the_last(kind):
    whole, cut = (example_of(ROW, kind.tokenizer(), Encoding(eos=eos)) for eos in (True, False))
    ends = whole.answer_ids[-1] == whole.end
    assert cut.answer_ids == (whole.answer_ids[:-1] if ends else whole.answer_ids)


def test_only_a_language_opens_every_answer():
    openings = {name: specimen(kind.tokenizer(), Encoding(), TASK).opening for name, kind in KINDS.items()}
    french = nllb_tokenizer().convert_tokens_to_ids(FRENCH)
    assert openings == {"t5": None, "flan": None, "bart": None, "m2m": french, "mbart": None, "pegasus": None}


def test_languages_named_for_the_tokenizer_are_those_of_input_and_target():
    named = Encoding(template_args=f'{{"src_lang": "{FRENCH}", "tgt_lang": "{ENGLISH}"}}')
    shared = nllb_tokenizer()
    example, swapped = example_of(ROW, shared, named), nllb_tokenizer(src_lang=FRENCH, tgt_lang=ENGLISH)
    assert list(example.prompt_ids) == swapped("ab 12").input_ids
    assert list(example.answer_ids) == swapped(text_target="c 3").input_ids
    assert (shared.src_lang, shared.tgt_lang) == (ENGLISH, FRENCH)


@pytest.mark.parametrize(
    ("kind", "arguments", "told"),
    [
        ("m2m", '{"tgt_lang": "xx"}', "'xx' is no language"),
        ("m2m", '{"tgt_lang": 3}', "3 is no language"),
        ("m2m", '{"enable_thinking": false}', "use src_lang and tgt_lang"),
        ("t5", '{"src_lang": "eng_Latn"}', "leave it out"),
    ],
)
def test_other_arguments_and_languages_are_refused(kind, arguments, told):
    with pytest.raises(DataError, match=told):
        example_of(ROW, KINDS[kind].tokenizer(), Encoding(template_args=arguments))


class LookingUp(NllbTokenizer):
    """As M2M100's tokenizer: a language that it was not told is an error of its own."""

    def _switch_to_target_mode(self):
        return self.set_tgt_lang_special_tokens({code: code for code in (ENGLISH, FRENCH)}[self.tgt_lang])


def test_a_tokenizer_that_knows_no_target_language_is_told_it():
    made = nllb_tokenizer(tgt_lang=None, kind=LookingUp)
    with pytest.raises(DataError, match="writes no targets without a language") as refusal:
        example_of(ROW, made)
    arguments = refusal.value.remedy.split("'")[1]
    example = example_of(ROW, made, Encoding(template_args=arguments))
    assert list(example.answer_ids) == nllb_tokenizer()(text_target="c 3").input_ids


def test_one_language_for_prompts_and_answers_is_told_and_another_one_is_named():
    def told(encoding):
        made = nllb_tokenizer(tgt_lang=None)
        found = encode([ROW], made, encoding, task=TASK)
        return oddities(found, [ROW], made)

    (note,) = told(Encoding())
    assert f"both read as '{ENGLISH}'" in note
    assert told(Encoding(template_args=f'{{"tgt_lang": "{FRENCH}"}}')) == ()


def test_a_template_file_is_refused_and_without_it_the_row_is_read():
    with pytest.raises(DataError, match="--template plain"):
        example_of(ROW, KINDS["t5"].tokenizer(), Encoding("own.jinja"))
    assert example_of(ROW, KINDS["t5"].tokenizer(), Encoding("plain")) == example_of(ROW, KINDS["t5"].tokenizer())


def test_conversations_and_empty_texts_are_left_out_and_counted():
    turns = Row.of([Message("user", "a"), Message("assistant", "b")])
    rows = [ROW, turns, Row("", "a"), Row("a", ""), Row("b" * 40, "c")]
    found = encode(rows, KINDS["t5"].tokenizer(), Encoding(max_length=30), task=TASK)
    assert [example.key for example in found.examples] == [ROW.key]
    assert found.left_out == {"refused by the template": 1, "empty prompt": 1, "empty answer": 1, "too long": 1}


def test_positions_are_counted_for_prompt_and_answer_apart():
    row = Row("a" * 10, "b" * 10)
    assert encode([row], KINDS["t5"].tokenizer(), Encoding(), task=TASK, positions=13).examples[0].span == 12
    with pytest.raises(DataError, match="12 tokens long, and the model has positions for 11"):
        encode([row], KINDS["t5"].tokenizer(), Encoding(), task=TASK, positions=11)
