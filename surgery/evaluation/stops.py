"""Texts that end an answer: seen while it is generated, and cut from it."""

from collections.abc import Sequence
from typing import Any


class Stops:
    """Called with the index of a prompt and its answer so far: whether one of the prompt's texts has come up.

    texts: of each prompt.

    The last tokens are decoded, two more than the text has by itself, for a text may come in other tokens.
    """

    def __init__(self, tokenizer: Any, texts: Sequence[Sequence[str]]) -> None:
        self._tokenizer = tokenizer
        lengths = {
            text: len(tokenizer.encode(text, add_special_tokens=False)) + 2
            for text in {text for each in texts for text in each}
        }
        # the same tail is decoded once for all texts of a length
        self._tails: list[dict[int, list[str]]] = []
        for each in texts:
            tails: dict[int, list[str]] = {}
            for text in each:
                tails.setdefault(lengths[text], []).append(text)
            self._tails.append(tails)

    def __call__(self, index: int, ids: Sequence[int]) -> bool:
        for length, texts in self._tails[index].items():
            tail = self._tokenizer.decode(list(ids[-length:]))
            if any(text in tail for text in texts):
                return True
        return False


def cut(answer: str, texts: Sequence[str]) -> str:
    """What of an answer stands before the texts that end it."""
    for text in texts:
        answer = answer.split(text, 1)[0] if text else answer
    return answer
