"""Which token of which row stands at each place of a module's input, in a pass over one batch.

Padding is told apart. The encoder and the decoder of a sequence-to-sequence model read different tokens, the output
layer of a causal language model the last few places alone, and an expert some of the tokens, nobody knows which.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from surgery.adapter import CAUSAL_LM, SEQ_2_SEQ_LM
from surgery.data import CLASSIFIERS, IGNORED
from surgery.model.batches import Batch

if TYPE_CHECKING:
    from surgery.model.live_model import LiveModel


@dataclass(frozen=True)
class TokenPlaces:
    """Which of the places of a sequence (row, token) hold prompt tokens and which answer tokens.

    `tokens` numbers the tokens that a row reads, −1 for padding: those of a sequence-to-sequence model's decoder
    follow those of its encoder.
    """

    parts: Bool[Tensor, "2 row token"]
    tokens: Int[Tensor, "row token"]

    def fits(self, places: tuple[int, ...]) -> bool:
        """Whether an input of this shape stands as (row, token), or as the same in one axis."""
        rows, width = self.tokens.shape
        return places in ((rows, width), (rows * width,))

    def ending(self, keep: int) -> "TokenPlaces":
        """Its last `keep` places; the tokens of the prompt are in none of its parts."""
        parts = self.parts[:, :, -keep:].clone()
        parts[0] = False
        return TokenPlaces(parts, self.tokens[:, -keep:])


class PlaceFinder:
    """Finds the tokens of a module's input while a batch runs; `output` is the name of the output layer."""

    def __init__(self, batch: Batch, output: str | None = None) -> None:
        self._sequences = _sequences(batch)
        self._output = output
        whole = self._sequences[0]
        # a model may be unable to leave the logits of prompts out
        self._ends = (whole.ending(batch.keep), whole.ending(batch.input_ids.shape[1]))
        self._decoding = False
        self._looked_up: int | None = None

    def find(self, name: str, places: tuple[int, ...], entered: Tensor) -> TokenPlaces | None:
        """What an input of a module holds, whose places have this shape; None where nobody can tell."""
        own = self._decoding and _storage(entered) != self._looked_up
        # states moved to another device are told by their shape
        order = self._ends if name == self._output else self._sequences[:: -1 if own else 1]
        return next((sequence for sequence in order if sequence.fits(places)), None)

    def begin_decoder(self, decoder: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """From here on modules read the answer, but for those that look up the encoder's states."""
        self._decoding = True
        states = named.get("encoder_hidden_states")
        self._looked_up = _storage(states) if isinstance(states, Tensor) else None


@contextmanager
def placing(live: "LiveModel", batch: Batch) -> Iterator[PlaceFinder]:
    """Find the tokens of inputs while the batch runs in this block."""
    finder = PlaceFinder(batch, _output(live) if batch.task == CAUSAL_LM else None)
    decoder = live.model.get_decoder() if batch.task == SEQ_2_SEQ_LM else None
    hook = decoder and decoder.register_forward_pre_hook(finder.begin_decoder, with_kwargs=True)
    try:
        yield finder
    finally:
        if hook:
            hook.remove()


def _output(live: "LiveModel") -> str | None:
    head = getattr(live.model, "get_output_embeddings", lambda: None)()
    return None if head is None else live.name_of(head)


def _sequences(batch: Batch) -> tuple[TokenPlaces, ...]:
    """The sequences that a model reads of a batch: one, or the encoder's and the decoder's."""
    real, scored = batch.attention_mask.bool(), batch.labels != IGNORED
    if batch.task == SEQ_2_SEQ_LM:
        nothing = torch.zeros_like
        read = real.sum(1, keepdim=True)
        return (
            TokenPlaces(torch.stack([real, nothing(real)]), _numbered(real)),
            TokenPlaces(torch.stack([nothing(scored), scored]), _numbered(scored, read)),
        )
    if batch.task in CLASSIFIERS:
        return (TokenPlaces(torch.stack([real, torch.zeros_like(real)]), _numbered(real)),)
    return (TokenPlaces(torch.stack([real & ~scored, real & scored]), _numbered(real)),)


def _numbered(there: Bool[Tensor, "row token"], start: Tensor | int = 0) -> Int[Tensor, "row token"]:
    """The tokens that are there, counted from `start` in every row; −1 for the others."""
    return torch.where(there, there.long().cumsum(1) - 1 + start, -1)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
