"""Mean cross-entropy over answer tokens."""

import math
from types import SimpleNamespace

import numpy as np
import torch

from surgery.model import answer_losses, collate
from tests.helpers.models import (
    random_examples,
    relative,
)
from tests.helpers.rounding import apart

EXAMPLES = tuple(random_examples(9, seed=4))


class FixedLogits(torch.nn.Module):
    """A model that says the same whatever it is asked."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(logits)

    def forward(self, *, logits_to_keep: int, **inputs) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits[:, -logits_to_keep:])


def test_losses_over_a_large_vocabulary_are_summed_without_drift():
    # a float32 sum over 50,000 entries, one after the other, is off by far more than one in halves of halves
    without_drift = apart(math.log2(50_000))
    batch = collate(EXAMPLES, 0)
    shape = (*batch.input_ids.shape, 50_000)
    logits = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    model, exact = FixedLogits(logits), logits.double().requires_grad_(True)
    found = answer_losses(model, batch)
    expected = torch.stack(
        [
            -exact[row, -len(e.answer_ids) - 1 : -1].log_softmax(-1)[range(len(e.answer_ids)), e.answer_ids].mean()
            for row, e in enumerate(EXAMPLES)
        ]
    )
    np.testing.assert_allclose(found.detach(), expected.detach(), rtol=without_drift)
    found.sum().backward()
    expected.sum().backward()
    assert relative(model.logits.grad, exact.grad) < without_drift
