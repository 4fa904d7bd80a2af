"""Per-example sensitivities of a whole batch from one backward pass through the live layer (paper §3.3, Eq. 4)."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.data import IGNORED, Calibration, Example
from surgery.model import Batch, answer_losses, batch_order, drawn_losses, recomputing, run_batches
from surgery.progress import SILENT, Control
from surgery.sensitivity.checkpoint import Partial
from surgery.sensitivity.input_sums import InputSums
from surgery.sensitivity.sensitivity import Provenance, Sensitivity, sigma_identity

if TYPE_CHECKING:
    from surgery.model import Layout, LiveModel, Variant

Keep = Callable[[Partial], None]
_Losses = Callable[[Any, Batch], Any]


# ten: what is measured and where, how its batches are made and how it survives a break; `calibrate` asks by a plan
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
    keep: Keep | None = None,
    sigma: "Variant | None" = None,
) -> Sensitivity:
    """gₖ = ∂loss/∂σₖ of every example for the modules `names`, in nats per answer token.

    What enters the modules on the way is summed up too, as `InputMoments`.

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
    sigma: σ′ by module at which it is measured, the adapter's own σ where not given, as in all other modules.
    """
    layout = layout or live.layout
    live.set_sigma(sigma)
    examples = calibration.examples
    live.check_positions(max((example.span for example in examples), default=0))
    found = _begun(live, examples, names, resume)
    batch_size = batch_size if resume is None else resume.batch_size
    progress = _Progress(control, examples, resume.done if resume else 0)
    losses_of: _Losses = answer_losses
    if calibration.sampled is not None:
        losses_of = partial(drawn_losses, examples=examples, seed=calibration.sampled)

    def step(batch: Batch) -> None:
        control.heed()
        _measure(live, batch, found, losses_of)
        progress.advance(batch)
        if keep is not None:
            # a batch of one length ends where the length does, which says nothing of memory
            size = batch_size if layout == "equal" else len(batch.indices)
            keep(Partial(progress.done, size, found.values, found.losses, found.inputs))
        progress.tell()

    try:
        with recomputing(live.model) if checkpointing else nullcontext():
            run_batches(examples, batch_size, live.base.padding, step, layout=layout, start=progress.done)
    finally:
        live.unperturb()
        live.set_sigma(None)
    return Sensitivity(
        found.values,
        found.losses,
        provenance_of(live, calibration, names, sigma),
        calibration.left_out,
        answer_tokens=answer_counts(examples),
        inputs=found.inputs.moments(examples),
    )


def provenance_of(
    live: "LiveModel",
    calibration: Calibration,
    names: "list[str] | tuple[str, ...]",
    sigma: "Variant | None" = None,
) -> Provenance:
    """The identity of a measurement before it is made, at σ′ where that is given, so that a stored one can be found."""
    dtype = str(next(live.model.parameters()).dtype).removeprefix("torch.")
    digests = live.adapter.digest, live.base.fingerprint, calibration.digest
    return Provenance(
        *digests, calibration.encoding, tuple(names), dtype, sigma_identity(sigma), calibration.sampled
    )


def answer_counts(examples: Sequence[Example]) -> np.ndarray:
    """How many tokens the loss of each example is the mean of: 1 for the label of a whole text, else the tokens that
    have a label.
    """
    return np.array([sum(token != IGNORED for token in e.answer_ids) for e in examples], dtype=np.int64)


@dataclass(frozen=True)
class _Found:
    """What has been measured so far, in arrays that go on changing."""

    values: dict[str, np.ndarray]
    losses: np.ndarray
    inputs: InputSums


def _begun(live: "LiveModel", examples: Sequence[Example], names: Sequence[str], resume: Partial | None) -> _Found:
    """Room for a measurement, with what was finished before a break."""
    ranks = {name: live.spectra[name].rank for name in names}
    found = _Found(
        {name: np.zeros((len(examples), rank)) for name, rank in ranks.items()},
        np.zeros(len(examples)),
        InputSums.of(ranks),
    )
    if resume is None:
        return found
    finished = batch_order(examples)[: resume.done]
    found.losses[finished] = resume.losses[finished]
    for name, g in found.values.items():
        g[finished] = resume.values[name][finished]
        found.inputs.sums[name][:] = resume.inputs.sums[name]
    found.inputs.counts[:] = resume.inputs.counts
    return found


def _measure(live: "LiveModel", batch: Batch, found: _Found, losses_of: _Losses) -> None:
    """One batch; nothing is noted of it where that fails."""
    from surgery.model import seeing

    names, rows = list(found.values), list(batch.indices)
    perturbations = live.perturb(names, len(rows))
    with seeing(live, names, batch) as products:
        loss = losses_of(live.model, batch)
    # examples do not share e's rows, so the gradient of the sum is every example's own
    if loss.requires_grad:  # some models read a layer's weight past its forward, so its update does nothing
        loss.sum().backward()
    found.losses[rows] = loss.detach().double().cpu().numpy()
    for name, e in perturbations.items():
        if e.grad is not None:
            found.values[name][rows] = e.grad.double().cpu().numpy()
    found.inputs.add(products.seen)


class _Progress:
    """How many examples and tokens are through, told to a control."""

    def __init__(self, control: Control, examples: Sequence[Example], done: int) -> None:
        self._control, self._examples = control, examples
        self._all = sum(example.length for example in examples)
        self.done = done
        self._read = sum(examples[i].length for i in batch_order(examples)[:done])
        if done:
            control.progress(done, len(examples))
        control.tokens(self._read, self._all)

    def advance(self, batch: Batch) -> None:
        self.done += len(batch.indices)
        self._read += sum(self._examples[i].length for i in batch.indices)

    def tell(self) -> None:
        self._control.progress(self.done, len(self._examples))
        self._control.tokens(self._read, self._all)
