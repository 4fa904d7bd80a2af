"""A forward pass that measures what enters the modules, of the adapter or of the base beneath it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from surgery.data import Calibration
from surgery.model import Batch, answer_losses, run_batches
from surgery.progress import SILENT, Control
from surgery.sensitivity.input_moments import InputMoments
from surgery.sensitivity.input_sums import InputSums

if TYPE_CHECKING:
    from surgery.model import LiveModel


def measure_inputs(
    live: "LiveModel",
    calibration: Calibration,
    names: Sequence[str],
    *,
    base: bool = True,
    batch_size: int = 8,
    control: Control = SILENT,
) -> InputMoments:
    """M = E[(Vᵀx)(Vᵀx)ᵀ] of the modules `names` from forward passes alone, in squared units of their inputs.

    live: the adapter in its running base model.
    calibration: encoded rows.
    base: at σ = 0, whose hidden states are the base's, as the follow-up takes them (TTtianTT/peft-sft-lab); biases,
        saved modules, trained tokens and magnitudes of the adapter stay in. Otherwise at the adapter's own σ.
    batch_size: examples of a batch at most.
    control: hears of examples after every batch; raises `Cancelled`.

    Raises `DataError` for rows that are longer than the model can read.
    """
    import torch

    from surgery.model import seeing

    examples = calibration.examples
    live.check_positions(max((example.span for example in examples), default=0))
    found, done = InputSums.of({name: live.spectra[name].rank for name in names}), 0

    def step(batch: Batch) -> None:
        nonlocal done
        control.heed()
        with torch.inference_mode(), seeing(live, names, batch) as products:
            answer_losses(live.model, batch)
        found.add(products.seen)
        done += len(batch.indices)
        control.progress(done, len(examples))

    layout = live.layout  # found on the adapter's own σ, which it leaves in place
    live.set_sigma({n: np.zeros_like(s.sigma) for n, s in live.spectra.items()} if base else None)
    try:
        run_batches(examples, batch_size, live.base.padding, step, layout=layout)
    finally:
        live.set_sigma()
    return found.moments(examples, base=base)
