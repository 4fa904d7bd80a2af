"""One pass over rows that splits gₖ over their tokens: gₖ = Σₜ (uₖᵀδₜ)(vₖᵀxₜ), the terms of the sum in paper §3.3, Eq. 4.

xₜ is what enters the module at a token and δₜ the gradient of the row's own loss at the module's output there. A
perturbation of σ with an axis for tokens has these terms for its gradient, for all components at once. With DoRA each
also holds what the token adds to gₖ through the norm of the weights.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float32, Float64
from numpy import ndarray

from surgery.adapter import SEQ_2_SEQ_LM, Adapter, ParameterSite
from surgery.data import Calibration, Example
from surgery.errors import DataError
from surgery.microscope.directions import random_directions
from surgery.model import Batch, answer_losses, drawn_losses, recomputing, run_batches
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.model import LiveModel, PlaceFinder

LARGEST = 20  # readings of each direction that are kept
_START = -1
_CONTEXT = 8  # tokens up to a place: where they are the same, so is about everything that enters there


@dataclass(frozen=True)
class TokenPass:
    """What one module did at every token that some rows read; the tokens of a row follow those of the row before.

    `lengths` counts the tokens of each row; those of a sequence-to-sequence model's decoder, which reads its start and
    then the answer, follow those of its encoder. `shares` are in nats per unit of σ, zero where a token does not enter
    the module; `projected` is vₖᵀxₜ, NaN there. `first` marks the first token of all that end the same few tokens, as
    every row's opening does: the others would fill a list of readings with one of them. `random` holds the largest
    |rᵀxₜ| over those of random unit directions r, from the largest down.
    """

    lengths: tuple[int, ...]
    shares: Float64[ndarray, "token rank"]
    projected: Float32[ndarray, "token rank"]
    first: Bool[ndarray, " token"]
    random: Float32[ndarray, "direction largest"]


def measure_tokens(
    live: "LiveModel",
    calibration: Calibration,
    name: str,
    *,
    batch_size: int = 8,
    checkpointing: bool = False,
    control: Control = SILENT,
) -> TokenPass:
    """The shares of all tokens of encoded rows in gₖ of all components of one module, and what enters it.

    live: the adapter in its running base model, at the adapter's own σ.
    calibration: the rows.
    name: of the module.
    batch_size: examples of a batch at most.
    checkpointing: as for `measure_sensitivity`.
    control: hears of examples after every batch; raises `Cancelled`.

    Raises `DataError` for the weights of experts kept as one parameter, a module whose places are no tokens or that
    does not run on these rows, and rows that are longer than the model can read.
    """
    refuse_experts(live.adapter, name)
    layout = live.layout
    live.set_sigma()
    examples = calibration.examples
    live.check_positions(max((example.span for example in examples), default=0))
    found, done = _Found(live, calibration, name), 0

    def step(batch: Batch) -> None:
        nonlocal done
        control.heed()
        found.measure(batch)
        done += len(batch.indices)
        control.progress(done, len(examples))

    try:
        with recomputing(live.model) if checkpointing else nullcontext():
            run_batches(examples, batch_size, live.base.padding, step, layout=layout)
    finally:
        live.unperturb()
    return found.all()


def refuse_experts(adapter: Adapter, name: str) -> None:
    """Raise `DataError` for a module that is not the adapter's, and one whose input no layer shows."""
    modules = adapter.modules
    if name not in modules:
        raise DataError(f"the adapter has no module {name!r}", f"choose one of its {len(modules)} modules")
    if isinstance(modules[name].site, ParameterSite):
        plain = next((n for n, own in modules.items() if not isinstance(own.site, ParameterSite)), None)
        raise DataError(
            f"module {name!r} is a raw parameter of experts, which get tokens sorted by expert and not by row",
            f"look inside a layer of its own, such as {plain!r}"
            if plain
            else "its gₖ by row are on the Spectra page: this adapter has no other kind of module",
        )


class _Found:
    """What the batches have shown so far."""

    def __init__(self, live: "LiveModel", calibration: Calibration, name: str) -> None:
        spectrum, self._examples = live.spectra[name], calibration.examples
        self._live, self._name = live, name
        self._losses: Any = answer_losses
        if calibration.sampled is not None:
            self._losses = partial(drawn_losses, examples=self._examples, seed=calibration.sampled)
        shape = [(example.length, spectrum.rank) for example in self._examples]
        self.shares = [np.zeros(each) for each in shape]
        self.projected = [np.full(each, np.nan, dtype=np.float32) for each in shape]
        self.first = _first_of_their_kind(self._examples)
        self._directions = random_directions(spectrum.V.shape[0])
        self.random = np.zeros((self._directions.shape[1], 0), dtype=np.float32)

    def measure(self, batch: Batch) -> None:
        """One batch; nothing is noted of it where that fails."""
        from surgery.model import placing

        calls: list[_Call] = []
        runs = self._live.spread([self._name])[self._name]
        try:
            with placing(self._live, batch) as finder:
                self._live.watch({self._name: partial(self._see, finder, batch, calls)})
                loss = self._losses(self._live.model, batch)
            perturbations = runs[: len(calls)]  # a layer that is run again in the backward pass adds others
        finally:
            self._live.watch({})
        if not calls:
            raise DataError(f"module {self._name!r} does not run on these rows", "choose another module")
        if loss.requires_grad:
            loss.sum().backward()
        self.random = _largest([self.random, *(call.random for call in calls)])
        for call, perturbation in zip(calls, perturbations, strict=True):
            grad = perturbation.grad
            self._note(batch.indices, call, None if grad is None else grad.flatten(0, -2).cpu().double().numpy())

    def _see(
        self, finder: "PlaceFinder", batch: Batch, calls: "list[_Call]", projected: "Tensor", entered: "Tensor"
    ) -> None:
        import torch

        places = finder.find(self._name, tuple(projected.shape[:-1]), entered)
        if places is None:
            raise DataError(
                f"module {self._name!r} is given an input of shape {tuple(entered.shape)}, whose places are no tokens",
                "look inside a module that reads every token of a row",
            )
        tokens = places.tokens.cpu().numpy()
        counted = [(row >= 0) & self.first[index][row] for index, row in zip(batch.indices, tokens, strict=True)]
        there = torch.from_numpy(np.concatenate(counted)).to(projected.device)
        with torch.no_grad():
            directions = torch.from_numpy(self._directions).to(projected.device, projected.dtype)
            along = self._live.layers[self._name].project(entered, directions).flatten(0, -2)[there]
            largest = along.abs().topk(min(LARGEST, len(along)), dim=0).values.T.float().cpu().numpy()
        values = projected.detach().flatten(0, -2).float().cpu().numpy()
        calls.append(_Call(tokens, values, largest))

    def _note(self, indices: Sequence[int], call: "_Call", shares: ndarray | None) -> None:
        width = call.tokens.shape[1]
        for row, index in enumerate(indices):
            there = call.tokens[row] >= 0
            at, places = call.tokens[row][there], np.flatnonzero(there) + row * width
            if shares is not None:
                self.shares[index][at] += shares[places]  # of a layer that stands in several places, all of them
            known, new = self.projected[index][at], call.projected[places]
            self.projected[index][at] = np.where(np.abs(new) <= np.abs(known), known, new)

    def all(self) -> TokenPass:
        lengths = tuple(map(len, self.shares))
        return TokenPass(
            lengths,
            np.concatenate(self.shares),
            np.concatenate(self.projected),
            np.concatenate(self.first),
            self.random,
        )


@dataclass(frozen=True)
class _Call:
    """What one call of the module was given: numbers of the tokens (row, token), x V (place, rank), the largest |rᵀx|."""

    tokens: ndarray
    projected: ndarray
    random: ndarray


def _largest(each: Sequence[Float32[ndarray, "direction _"]]) -> Float32[ndarray, "direction largest"]:
    """The largest of all numbers of every direction, from the largest down."""
    together = np.concatenate(each, axis=1)
    return -np.sort(-together, axis=1)[:, :LARGEST]


def _first_of_their_kind(examples: Sequence[Example]) -> list[Bool[ndarray, " token"]]:
    """For every token that a row reads, whether no token before it, in any row, ends the same few tokens."""
    seen: set[tuple[int, ...]] = set()
    found = []
    for example in examples:
        ids = example.tokens
        if example.task == SEQ_2_SEQ_LM:  # its decoder reads a start and then the answer but for the last token
            ids = (*example.prompt_ids, _START, *example.answer_ids[:-1])
        ends = [ids[max(0, at + 1 - _CONTEXT) : at + 1] for at in range(len(ids))]
        found.append(np.array([end not in seen and not seen.add(end) for end in ends]))  # type: ignore[func-returns-value]
    return found
