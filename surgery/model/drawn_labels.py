"""Losses of labels drawn from the model's own distribution: slices that need no answers.

Every position that has a label gets one drawn from what the model says there, after the text as it stands. The
gradient of such a loss has mean zero, and its second moment is the true Fisher information: over an example's T
positions E[(g·δ)²] = (1/T²)·Σ δᵀFₜδ, so the mean KL(unedited ‖ edited) per token is T/2·E[(g·δ)²] to second order.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import IGNORED, Example
from surgery.files import digest
from surgery.model.batches import Batch
from surgery.model.loss import mean_answer_loss, scored_logits

if TYPE_CHECKING:
    from torch import Tensor

_POSITIONS = 64  # of a large vocabulary that are summed up at once in float64


def drawn_losses(model: Any, batch: Batch, examples: Sequence[Example], seed: int) -> "Tensor":
    """Mean cross-entropy of drawn labels of each example, shape (example), in float32 or better.

    batch: its indices are places in `examples`.
    seed: of the draws; those of an example depend on it and on the example's text, and on nothing else.
    """
    logits, labels = scored_logits(model, batch)
    uniforms = [_uniforms(examples[i], seed) for i in batch.indices]
    return mean_answer_loss(logits, drawn_labels(logits.detach(), labels, uniforms))


def drawn_labels(logits: "Tensor", labels: "Tensor", uniforms: Sequence[ndarray]) -> "Tensor":
    """The labels (example, token), each that counts replaced by one drawn from softmax of (example, token, vocabulary).

    uniforms: of every example one float64 number in [0, 1) for each of its labels that counts; the first token whose cumulative
        probability passes it is drawn.
    """
    import torch

    drawn = labels.clone()
    for row, numbers in enumerate(uniforms):
        places = torch.nonzero(labels[row] != IGNORED).flatten()
        levels = torch.as_tensor(numbers).to(logits.device)
        for some, level in zip(places.split(_POSITIONS), levels.split(_POSITIONS), strict=True):
            rising = logits[row, some].double().softmax(dim=-1).cumsum(dim=-1)
            # the last sum is 1 but for rounding
            found = torch.searchsorted(rising, level[:, None] * rising[:, -1:], right=True)
            drawn[row, some] = found.flatten().clamp(max=logits.shape[-1] - 1).to(drawn.dtype)
    return drawn


def _uniforms(example: Example, seed: int) -> Float64[ndarray, " position"]:
    own = int(digest([str(example.prompt_ids), str(example.answer_ids)])[:32], 16)
    count = sum(label != IGNORED for label in example.answer_ids)
    found: ndarray = np.random.default_rng([seed, own]).random(count)
    return found
