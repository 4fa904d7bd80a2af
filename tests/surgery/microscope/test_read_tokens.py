"""The tokens of a row, each where a model reads it."""

from surgery.data import Encoding, Example
from surgery.microscope import read_tokens
from tests.helpers.models import EOS, characters, tiny_tokenizer


def texts(task, answer):
    example = Example("", tuple(characters("ab")), answer, "c", end=EOS, task=task)
    return [(token.text, token.name) for token in read_tokens(example, tiny_tokenizer(), Encoding())]


def test_a_causal_model_reads_prompt_and_answer():
    assert texts("CAUSAL_LM", (*characters("c"), EOS)) == [
        ("a", ""),
        ("b", ""),
        ("c", ""),
        ("</s>", "end of turn, EOS"),
    ]


def test_a_decoder_reads_its_start_in_place_of_the_end_of_the_answer():
    assert texts("SEQ_2_SEQ_LM", (*characters("c"), EOS)) == [("a", ""), ("b", ""), ("", "start"), ("c", "")]


def test_nobody_reads_the_label_of_a_text():
    assert texts("SEQ_CLS", (2,)) == [("a", ""), ("b", "")]
