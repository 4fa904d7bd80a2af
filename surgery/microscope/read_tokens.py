"""The tokens that a model reads of a row, each where it enters the modules."""

from typing import Any

from surgery.adapter import SEQ_2_SEQ_LM
from surgery.data import CLASSIFIERS, Encoding, Example, Token, token_view

START = "start"


def read_tokens(example: Example, tokenizer: Any, encoding: Encoding) -> tuple[Token, ...]:
    """As many tokens as the example has, in the order in which `measure_tokens` numbers them.

    The decoder of a sequence-to-sequence model reads its start and then the answer but for the last token, so the start
    stands before the answer here; the label of a classifier's text is read by nobody.
    """
    tokens = token_view(example, tokenizer, encoding)
    if example.task in CLASSIFIERS:
        return tokens[: example.length]
    if example.task != SEQ_2_SEQ_LM:
        return tokens
    read = len(example.prompt_ids)
    return (*tokens[:read], Token(-1, "", True, START), *tokens[read:-1])
