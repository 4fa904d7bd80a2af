"""What enters the modules in a pass over one batch: (Vᵀx)(Vᵀx)ᵀ summed over its tokens, prompt and answer apart.

A layer in spectral form computes x V anyway, so this costs one small product more. Padding is left out. Prompt tokens
are those of a causal language model that carry no loss, what the encoder of a sequence-to-sequence model reads, and
all of a classifier's; answer tokens are those that carry loss, and what the decoder reads.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surgery.adapter import CAUSAL_LM, SEQ_2_SEQ_LM
from surgery.data import CLASSIFIERS, IGNORED
from surgery.model.batches import Batch

if TYPE_CHECKING:
    from surgery.model.live_model import LiveModel


@dataclass(frozen=True)
class Seen:
    """What one call of a module was given: sums of (Vᵀx)(Vᵀx)ᵀ over its prompt and its answer tokens, and their counts."""

    sums: Float[Tensor, "2 rank rank"]
    tokens: tuple[int, int]


@dataclass(frozen=True)
class _Sequence:
    """Which of the places of a sequence (row, token) hold prompt tokens, and which answer tokens."""

    parts: Bool[Tensor, "2 row token"]

    def fitting(self, places: tuple[int, ...], keep: int) -> Bool[Tensor, "2 place"] | None:
        """The parts of an input of this shape: (row, token), the same in one axis, or its last `keep` tokens."""
        _, rows, width = self.parts.shape
        if places in ((rows, width), (rows * width,)):
            return self.parts.flatten(1)
        return self.parts[:, :, -keep:].flatten(1) if keep and places == (rows, keep) else None


class InputProducts:
    """What the modules are given while a batch runs, call by call.

    `seen` holds None for a call whose input does not stand as (row, token), as that of an expert, which gets some of
    the tokens only: nobody can tell then which they are.
    """

    def __init__(self, batch: Batch) -> None:
        self.seen: dict[str, list[Seen | None]] = {}
        self._sequences = _sequences(batch)
        self._keep = batch.keep if batch.task == CAUSAL_LM else 0
        self._places: dict[Any, tuple[Tensor, tuple[int, int]] | None] = {}
        self._decoding = False
        self._looked_up: int | None = None

    def see(self, name: str, projected: Float[Tensor, "*place rank"], entered: Tensor) -> None:
        """Take note of x V in one call of a module; `entered` is x."""
        found = self._tokens(tuple(projected.shape[:-1]), entered, projected.device)
        calls = self.seen.setdefault(name, [])
        if found is None:
            calls.append(None)
            return
        parts, counts = found
        values = projected.detach().flatten(0, -2)
        values = values.to(torch.promote_types(values.dtype, torch.float32))
        # chosen, not multiplied: what stands in the padding need not be finite
        chosen = torch.where(parts, values, 0.0)
        calls.append(Seen(chosen.mT @ chosen, counts))

    def begin_decoder(self, decoder: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """From here on modules read the answer, but for those that look up the encoder's states."""
        self._decoding = True
        states = named.get("encoder_hidden_states")
        self._looked_up = _storage(states) if isinstance(states, Tensor) else None

    def _tokens(
        self, places: tuple[int, ...], entered: Tensor, device: torch.device
    ) -> tuple[Bool[Tensor, "2 place 1"], tuple[int, int]] | None:
        """The parts of an input, on its device, and how many tokens they hold."""
        own = self._decoding and _storage(entered) != self._looked_up
        key = (own, places, device)
        if key not in self._places:
            # states moved to another device are told by their shape
            order = self._sequences[::-1] if own else self._sequences
            fitting = (sequence.fitting(places, self._keep) for sequence in order)
            parts = next((parts for parts in fitting if parts is not None), None)
            self._places[key] = None if parts is None else (parts[:, :, None].to(device), _counts(parts))
        return self._places[key]


@contextmanager
def seeing(live: "LiveModel", names: Sequence[str], batch: Batch) -> Iterator[InputProducts]:
    """Take note of what enters the modules `names` while the batch runs in this block.

    A layer that is run again outside it, as in a backward pass that recomputes, is not counted twice.
    """
    products = InputProducts(batch)
    decoder = live.model.get_decoder() if batch.task == SEQ_2_SEQ_LM else None
    hook = decoder and decoder.register_forward_pre_hook(products.begin_decoder, with_kwargs=True)
    live.watch({name: partial(products.see, name) for name in names})
    try:
        yield products
    finally:
        live.watch({})
        if hook:
            hook.remove()


def _sequences(batch: Batch) -> tuple[_Sequence, ...]:
    """The sequences that a model reads of a batch: one, or the encoder's and the decoder's."""
    real, scored = batch.attention_mask.bool(), batch.labels != IGNORED
    if batch.task == SEQ_2_SEQ_LM:
        nothing = torch.zeros_like
        return (
            _Sequence(torch.stack([real, nothing(real)])),
            _Sequence(torch.stack([nothing(scored), scored])),
        )
    if batch.task in CLASSIFIERS:
        return (_Sequence(torch.stack([real, torch.zeros_like(real)])),)
    return (_Sequence(torch.stack([real & ~scored, real & scored])),)


def _counts(parts: Bool[Tensor, "2 place"]) -> tuple[int, int]:
    prompt, answer = parts.sum(1).tolist()
    return prompt, answer


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
