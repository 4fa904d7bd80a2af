"""What enters the modules in a pass over one batch: (Vᵀx)(Vᵀx)ᵀ summed over its tokens, prompt and answer apart.

A layer in spectral form computes x V anyway, so this costs one small product more. Padding is left out. Prompt tokens
are those of a causal language model that carry no loss, what the encoder of a sequence-to-sequence model reads, and
all of a classifier's; answer tokens are those that carry loss, and what the decoder reads. The output layer of a
causal language model is given little more than the answers, and counts those alone.
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

    def fitting(self, places: tuple[int, ...]) -> Bool[Tensor, "2 place"] | None:
        """The parts of an input of this shape: (row, token), or the same in one axis."""
        _, rows, width = self.parts.shape
        return self.parts.flatten(1) if places in ((rows, width), (rows * width,)) else None

    def ending(self, keep: int) -> "_Sequence":
        """Its last `keep` places, without the tokens of the prompt."""
        parts = self.parts[:, :, -keep:].clone()
        parts[0] = False
        return _Sequence(parts)


class InputProducts:
    """What the modules are given while a batch runs, call by call; `output` is the name of the output layer.

    `seen` holds None for a call whose input does not stand as (row, token), as that of an expert, which gets some of
    the tokens only: nobody can tell then which they are.
    """

    def __init__(self, batch: Batch, output: str | None = None) -> None:
        self.seen: dict[str, list[Seen | None]] = {}
        self._sequences = _sequences(batch)
        self._output = output
        whole = self._sequences[0]
        # a model may be unable to leave the logits of prompts out
        self._ends = (whole.ending(batch.keep), whole.ending(batch.input_ids.shape[1]))
        self._places: dict[Any, tuple[Tensor, tuple[int, int]] | None] = {}
        self._decoding = False
        self._looked_up: int | None = None

    def see(self, name: str, projected: Float[Tensor, "*place rank"], entered: Tensor) -> None:
        """Take note of x V in one call of a module; `entered` is x."""
        found = self._tokens(name == self._output, projected, entered)
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
        self, output: bool, projected: Tensor, entered: Tensor
    ) -> tuple[Bool[Tensor, "2 place 1"], tuple[int, int]] | None:
        """The parts of an input, on its device, and how many tokens they hold."""
        places = tuple(projected.shape[:-1])
        own = self._decoding and _storage(entered) != self._looked_up
        key = (output, own, places, projected.device)
        if key not in self._places:
            # states moved to another device are told by their shape
            order = self._ends if output else self._sequences[:: -1 if own else 1]
            parts = next((p for p in (sequence.fitting(places) for sequence in order) if p is not None), None)
            self._places[key] = None if parts is None else (parts[:, :, None].to(projected.device), _counts(parts))
        return self._places[key]


@contextmanager
def seeing(live: "LiveModel", names: Sequence[str], batch: Batch) -> Iterator[InputProducts]:
    """Take note of what enters the modules `names` while the batch runs in this block.

    A layer that is run again outside it, as in a backward pass that recomputes, is not counted twice.
    """
    products = InputProducts(batch, _output(live) if batch.task == CAUSAL_LM else None)
    decoder = live.model.get_decoder() if batch.task == SEQ_2_SEQ_LM else None
    hook = decoder and decoder.register_forward_pre_hook(products.begin_decoder, with_kwargs=True)
    live.watch({name: partial(products.see, name) for name in names})
    try:
        yield products
    finally:
        live.watch({})
        if hook:
            hook.remove()


def _output(live: "LiveModel") -> str | None:
    head = getattr(live.model, "get_output_embeddings", lambda: None)()
    return None if head is None else live.name_of(head)


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
