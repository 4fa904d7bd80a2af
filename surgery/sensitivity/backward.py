"""Per-example sensitivities of a whole batch from one backward pass through the live layer (paper §3.3, Eq. 4)."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np

from surgery.data import Calibration
from surgery.model import Batch, answer_losses, batch_order, drawn_losses, recomputing, run_batches
from surgery.progress import SILENT, Control
from surgery.sensitivity.checkpoint import Partial
from surgery.sensitivity.sensitivity import Provenance, Sensitivity

if TYPE_CHECKING:
    from surgery.model import Layout, LiveModel


# nine: what is measured, how its batches are made and how it survives a break; `calibrate` asks for it by a plan
def measure_sensitivity(
    live: "LiveModel",
    calibration: Calibration,
    names: "list[str] | tuple[str, ...]",
    *,
    batch_size: int = 8,
    layout: "Layout | None" = None,
    checkpointing: bool = False,
    control: Control = SILENT,
    resume: Partial | None = None,
    keep: Callable[[Partial], None] | None = None,
) -> Sensitivity:
    """gₖ = ∂loss/∂σₖ of every example for the modules `names`, at the adapter's own σ, in nats per answer token.

    live: the adapter in its running base model.
    calibration: encoded rows.
    names: of modules; gradients go no deeper than the first one.
    batch_size: examples of a batch at most.
    layout: how the examples of a batch stand; the fastest that the model reads rightly where not given.
    checkpointing: keeps only the layers' inputs and computes the rest again in the backward pass: a third more
        time, far less memory.
    control: hears of examples and tokens after every batch; raises `Cancelled`.
    resume: a part of the same measurement, taken over to the same bits as without a break.
    keep: given what is finished after every batch, in arrays that go on changing.
    """
    layout = layout or live.layout
    live.set_sigma(None)
    examples = calibration.examples
    live.check_positions(max((example.span for example in examples), default=0))
    values = {name: np.zeros((len(examples), live.spectra[name].rank)) for name in names}
    losses = np.zeros(len(examples))
    done = 0
    if resume is not None:
        done, batch_size = resume.done, resume.batch_size
        finished = batch_order(examples)[:done]
        losses[finished] = resume.losses[finished]
        for name, g in values.items():
            g[finished] = resume.values[name][finished]
        control.progress(done, len(examples))
    read = sum(examples[i].length for i in batch_order(examples)[:done])
    all_tokens = sum(example.length for example in examples)
    control.tokens(read, all_tokens)

    def step(batch: Batch) -> None:
        nonlocal done, read
        control.heed()
        rows = list(batch.indices)
        perturbations = live.perturb(names, len(rows))
        if calibration.sampled is None:
            loss = answer_losses(live.model, batch)
        else:
            loss = drawn_losses(live.model, batch, examples, calibration.sampled)
        # examples do not share e's rows, so the gradient of the sum is every example's own
        if loss.requires_grad:  # some models read a layer's weight past its forward, so its update does nothing
            loss.sum().backward()
        losses[rows] = loss.detach().double().cpu().numpy()
        for name, e in perturbations.items():
            if e.grad is not None:
                values[name][rows] = e.grad.double().cpu().numpy()
        done += len(rows)
        read += sum(examples[i].length for i in rows)
        if keep is not None:
            # a batch of one length ends where the length does, which says nothing of memory
            keep(Partial(done, batch_size if layout == "equal" else len(rows), values, losses))
        control.progress(done, len(examples))
        control.tokens(read, all_tokens)

    try:
        with recomputing(live.model) if checkpointing else nullcontext():
            run_batches(examples, batch_size, live.base.padding, step, layout=layout, start=done)
    finally:
        live.unperturb()
    return Sensitivity(values, losses, provenance_of(live, calibration, names), calibration.left_out)


def provenance_of(live: "LiveModel", calibration: Calibration, names: "list[str] | tuple[str, ...]") -> Provenance:
    """The identity of a measurement before it is made, so that a stored one can be found."""
    dtype = str(next(live.model.parameters()).dtype).removeprefix("torch.")
    return Provenance(
        live.adapter.digest,
        live.base.fingerprint,
        calibration.digest,
        calibration.encoding,
        tuple(names),
        dtype,
        calibration.sampled,
    )
