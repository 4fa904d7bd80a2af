"""Whether a calibration loss is one that a trained adapter has on its own rows: said before anything is built on it."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import Example
from surgery.model import Batch, answer_losses, run_batches

if TYPE_CHECKING:
    from surgery.model import LiveModel
    from surgery.sensitivity.sensitivity import Sensitivity

COMPARED = 16  # examples: one forward pass, and enough to tell a wrong base from a hard row
_FAR = 4.0  # nats a token, a choice among more than fifty; trained adapters lie below two, untrained bases below three
_CLEAR = 2.0  # standard errors


def losses_without(
    live: "LiveModel", examples: Sequence[Example], batch_size: int = 8
) -> Float64[ndarray, " example"]:
    """The mean answer-token loss of each example with every σ at zero, in nats: the base model's, saved modules apart."""
    import torch

    losses = np.zeros(len(examples))

    def step(batch: Batch) -> None:
        with torch.inference_mode():
            losses[list(batch.indices)] = answer_losses(live.model, batch).double().cpu().numpy()

    layout = live.layout  # found on the adapter's own σ, which it leaves in place
    live.set_sigma({name: np.zeros_like(spectrum.sigma) for name, spectrum in live.spectra.items()})
    try:
        run_batches(examples, batch_size, live.base.padding, step, layout=layout)
    finally:
        live.set_sigma()
    return losses


def doubts(sensitivity: "Sensitivity") -> tuple[str, ...]:
    """What the losses of a measurement say against its base model, rows or format, a sentence each."""
    losses, without = sensitivity.losses, sensitivity.without
    if sensitivity.label_free:
        return ()  # the loss of drawn answers is an entropy, large or small
    found = []
    mean = float(losses.mean())
    if mean > _FAR:
        found.append(
            f"mean loss {mean:.1f} on rows it should know: are these the rows and the format it was trained on? "
            "Look at them as tokens"
        )
    raised = losses[: without.size] - without
    error = float(raised.std(ddof=1)) / math.sqrt(raised.size) if raised.size > 1 else math.inf
    if raised.size and raised.mean() > max(_CLEAR * error, 0.0):
        found.append(
            f"the adapter makes its own rows worse: loss {losses[: without.size].mean():.2f} with it and "
            f"{without.mean():.2f} without, over {without.size} of them: is this the base model, and the format, "
            "that it was trained on?"
        )
    return tuple(found)
