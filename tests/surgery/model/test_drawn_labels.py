"""Labels drawn from the model: the right distribution, and draws that depend on nothing but seed and text."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from surgery.data import IGNORED
from surgery.model import collate, drawn_labels, drawn_losses
from tests.helpers.models import example_loss, random_examples, tiny_llama
from tests.helpers.rounding import assert_losses


@given(st.integers(0, 999), st.integers(1, 90))
def test_a_label_is_the_first_whose_cumulative_probability_passes_the_number(seed, positions):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.standard_normal((1, positions, 7))
    logits[0, 0, 2] = -np.inf
    labels = np.where(rng.random((1, positions)) < 0.7, 1, IGNORED)
    uniforms = rng.random((labels != IGNORED).sum())
    found = drawn_labels(torch.tensor(logits), torch.tensor(labels), [uniforms])[0].tolist()
    numbers = iter(uniforms.tolist())
    for place, label in enumerate(labels[0]):
        if label == IGNORED:
            assert found[place] == IGNORED
            continue
        shares = np.exp(logits[0, place] - logits[0, place].max())
        level, total, expected = next(numbers) * shares.sum(), 0.0, 0
        for token, share in enumerate(shares):
            expected, total = token, total + share
            if total > level + 1e-12:
                break
        assert found[place] == expected


def test_a_token_that_cannot_follow_is_never_drawn():
    logits = torch.tensor([[[-torch.inf, 0.0, -torch.inf]] * 3])
    for number in (0.0, 0.5, 1 - 2**-53):
        assert drawn_labels(logits, torch.zeros(1, 3, dtype=torch.long), [np.full(3, number)]).tolist() == [
            [1, 1, 1]
        ]


def test_draws_are_those_of_an_examples_text_and_seed_whatever_stands_beside_it():
    examples, model = random_examples(6, seed=2), tiny_llama()
    together = drawn_losses(model, collate(examples, 0), examples, 5)
    alone = [drawn_losses(model, collate([example], 0), [example], 5)[0] for example in examples]
    assert_losses(together.tolist(), [float(loss) for loss in alone], model)
    backwards = drawn_losses(model, collate(examples[::-1], 0), examples[::-1], 5).flip(0)
    assert_losses(backwards.tolist(), together.tolist(), model)
    assert not np.allclose(drawn_losses(model, collate(examples, 0), examples, 6).tolist(), together.tolist())
    assert not np.allclose([float(example_loss(model, example)) for example in examples], together.tolist())
