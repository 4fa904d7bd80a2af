"""Rows that are gone on with: the likeliest token of each, and losses of answers of different lengths by hand."""

import math

import torch

from surgery.model import reading


class Fixed(reading.Scorable):
    """Two rows with the same known logits at every place."""

    def __init__(self, logits: list[float]) -> None:
        self._next = torch.tensor([logits] * 2)
        self._ids = torch.zeros(2, 1, dtype=torch.long)

    def answer_logits(self, answers):
        return self._next[:, None].expand(-1, max(map(len, answers)), -1)


def test_the_likeliest_token_is_chosen_and_of_equals_the_first():
    assert Fixed([0.0, 2.0, 1.0]).chosen == [1, 1]
    assert Fixed([1.0, 1.0, 0.0]).chosen == [0, 0]


def test_each_rows_answer_is_scored_over_its_own_tokens_alone():
    read = Fixed([0.0, math.log(2), 0.0])
    found = read.answer_losses([(1, 0, 0), (1,)])
    expected = [(math.log(2) + 2 * math.log(4)) / 3, math.log(2)]
    assert all(abs(a - b) < 1e-6 for a, b in zip(found, expected, strict=True))
