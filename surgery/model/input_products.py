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

from surgery.model.batches import Batch
from surgery.model.token_places import PlaceFinder, placing

if TYPE_CHECKING:
    from surgery.model.live_model import LiveModel


@dataclass(frozen=True)
class Seen:
    """What one call of a module was given: sums of (Vᵀx)(Vᵀx)ᵀ over its prompt and its answer tokens, and their counts."""

    sums: Float[Tensor, "2 rank rank"]
    tokens: tuple[int, int]


class InputProducts:
    """What the modules are given while a batch runs, call by call.

    `seen` holds None for a call whose input does not stand as (row, token), as that of an expert, which gets some of
    the tokens only: nobody can tell then which they are.
    """

    def __init__(self, finder: PlaceFinder) -> None:
        self.seen: dict[str, list[Seen | None]] = {}
        self._finder = finder
        self._parts: dict[Any, tuple[Tensor, tuple[int, int]]] = {}

    def see(self, name: str, projected: Float[Tensor, "*place rank"], entered: Tensor) -> None:
        """Take note of x V in one call of a module; `entered` is x."""
        found = self._tokens(name, projected, entered)
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

    def _tokens(
        self, name: str, projected: Tensor, entered: Tensor
    ) -> tuple[Bool[Tensor, "2 place 1"], tuple[int, int]] | None:
        """The parts of an input, on its device, and how many tokens they hold."""
        found = self._finder.find(name, tuple(projected.shape[:-1]), entered)
        if found is None:
            return None
        key = (id(found), projected.device)
        if key not in self._parts:
            parts = found.parts.flatten(1)
            prompt, answer = parts.sum(1).tolist()
            self._parts[key] = (parts[:, :, None].to(projected.device), (prompt, answer))
        return self._parts[key]


@contextmanager
def seeing(live: "LiveModel", names: Sequence[str], batch: Batch) -> Iterator[InputProducts]:
    """Take note of what enters the modules `names` while the batch runs in this block.

    A layer that is run again outside it, as in a backward pass that recomputes, is not counted twice.
    """
    with placing(live, batch) as finder:
        products = InputProducts(finder)
        live.watch({name: partial(products.see, name) for name in names})
        try:
            yield products
        finally:
            live.watch({})
