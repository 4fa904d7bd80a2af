"""How far an edit moves what the adapter says: the Kullback-Leibler divergence of its next-token distributions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import IGNORED, Example
from surgery.model import Batch, Variant, run_batches, scored_logits
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from surgery.model import LiveModel


def divergences(
    live: "LiveModel",
    examples: Sequence[Example],
    sigma: Variant,
    *,
    batch_size: int = 32,
    control: Control = SILENT,
) -> Float64[ndarray, " example"]:
    """KL(unedited ‖ edited) of each example, the mean over its labels of Σᵥ p(v)·(log p(v) − log q(v)), in nats.

    live: the adapter in its running base model; it holds the adapter's own σ afterwards.
    examples: encoded rows.
    sigma: σ′ by module.
    batch_size: examples of a batch at most.
    control: hears of examples; raises `Cancelled`.

    Summed in float64: between an adapter and a careful edit of it the terms cancel far below what float32 resolves.
    """
    import torch

    found = np.zeros(len(examples))
    done = 0

    def step(batch: Batch) -> None:
        nonlocal done
        control.heed()
        with torch.inference_mode():
            live.set_sigma(None)
            before, labels = scored_logits(live.model, batch)
            live.set_sigma(sigma)
            after, _ = scored_logits(live.model, batch)
            log_p, log_q = before.double().log_softmax(-1), after.double().log_softmax(-1)
            p = log_p.exp()
            # a token that the unedited adapter rules out adds nothing, whatever the edited one says of it
            terms = (p * (log_p - log_q)).masked_fill_(p == 0, 0.0).sum(-1)
            counted = labels != IGNORED
            means = terms.masked_fill_(~counted, 0.0).sum(-1) / counted.sum(-1)
        found[list(batch.indices)] = means.clamp_min(0.0).tolist()  # below 0 is the rounding of the last digits
        done += len(batch.indices)
        control.progress(done, len(examples))

    try:
        run_batches(examples, batch_size, live.base.padding, step, layout=live.layout)
    finally:
        live.set_sigma(None)
    return found
