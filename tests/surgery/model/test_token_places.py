"""Which token stands at which place of a module's input."""

import torch

from surgery.data import Example
from surgery.model import PlaceFinder, collate

PAIRS = [
    Example("", (8, 9, 10), (11, 5), "", task="SEQ_2_SEQ_LM"),
    Example("", (8,), (11, 12, 5), "", task="SEQ_2_SEQ_LM"),
]
TEXTS = [Example("", (8, 9, 10), (11, 5), ""), Example("", (8,), (11,), "")]


def tokens(finder, name, places):
    found = finder.find(name, places, torch.zeros(1))
    return None if found is None else found.tokens.tolist()


def test_tokens_are_numbered_past_the_padding():
    left, right = (PlaceFinder(collate(TEXTS, 3, layout=layout)) for layout in ("left", "right"))
    assert tokens(left, "m", (2, 5)) == [[0, 1, 2, 3, 4], [-1, -1, -1, 0, 1]]
    assert tokens(left, "m", (10,)) == tokens(left, "m", (2, 5))
    assert tokens(right, "m", (2, 5)) == [[0, 1, 2, 3, 4], [0, 1, -1, -1, -1]]
    assert tokens(left, "m", (2, 4)) is None


def test_the_head_is_given_the_last_places():
    batch = collate(TEXTS, 3)
    finder = PlaceFinder(batch, "lm_head")
    assert batch.keep == 3
    assert tokens(finder, "lm_head", (2, 3)) == [[2, 3, 4], [-1, 0, 1]]
    assert tokens(finder, "lm_head", (2, 5)) == [[0, 1, 2, 3, 4], [-1, -1, -1, 0, 1]]


def test_the_tokens_of_a_decoder_follow_those_of_its_encoder():
    finder = PlaceFinder(collate(PAIRS, 3, layout="right"))
    encoder = [[0, 1, 2], [0, -1, -1]]
    assert tokens(finder, "m", (2, 3)) == encoder
    states, own = torch.zeros(1), torch.zeros(1)
    finder.begin_decoder(None, (), {"encoder_hidden_states": states})
    assert finder.find("m", (2, 3), own).tokens.tolist() == [[3, 4, -1], [1, 2, 3]]
    assert finder.find("m", (2, 3), states).tokens.tolist() == encoder
