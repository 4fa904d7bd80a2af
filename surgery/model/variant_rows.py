"""Rows of one batch at different σ: a variant for each row, and which rows fit into one forward pass."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.model.memory import footprint, free_bytes
from surgery.model.queue import Queue, Slot
from surgery.model.ways import Layout

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.model.live_model import LiveModel

Variant = Mapping[str, Float64[ndarray, " rank"]]
# of what is free, for the rows of a batch; the rest is for what an estimate does not see
_SHARE = 0.6
# tokens of one forward pass, above which each costs as much, on a CPU a tenth more, and a cancel waits longer
_TOKENS_AT_ONCE = {"cpu": 512}
_TOKENS = 32768


class VariantRows:
    """A live model whose rows each have the σ of a variant, by the variant's number.

    count: how many variants there are.
    footprint: bytes that rows take in the model.
    apart: set once layers turn out to mix rows; a batch then holds one variant alone.
    """

    def __init__(self, live: "LiveModel", variants: Mapping[str, Variant | None]) -> None:
        self.live, self.count, self.apart = live, len(variants), False
        self.footprint = footprint(live.model)
        self._sigma = _on_device(live, stacked_sigma(live, variants))
        self._most_tokens = _TOKENS_AT_ONCE.get(live.device.type, _TOKENS)

    def choose(self, variants: Sequence[int]) -> None:
        """Put the σ of these variants, one a row, into the live model; without rows where all are the same."""
        if len(set(variants)) == 1:
            self.live.set_sigma({name: sigma[variants[0]] for name, sigma in self._sigma.items()})
        else:
            import torch

            index = torch.tensor(variants, device=self.live.device)
            self.live.set_sigma({name: sigma[index] for name, sigma in self._sigma.items()})

    def at_once(self, width: int) -> int:
        """Rows of `width` tokens for one forward pass: whole requests, or equal parts of the variants of one."""
        variants = 1 if self.apart else self.count
        rows = max(1, self._most_tokens // width)
        if rows >= variants:
            return rows // variants * variants
        return -(-variants // -(-variants // rows))

    @property
    def budget(self) -> int:
        """Bytes that the rows of a batch may take now."""
        return int(_SHARE * free_bytes(self.live.device))

    def packed(self, queue: Queue, budget: int, layout: Layout, most: int, *, in_one_pass: bool) -> list[Slot]:
        """The next batch: whole tasks while they fit and may stand together, or as many variants of one task as do.

        queue: what is left to do.
        budget: bytes that the batch may take.
        layout: how its rows stand.
        most: rows that it may have.
        in_one_pass: whether it is a single forward pass, so that its tokens count too.
        """
        batch: list[Slot] = []
        heaviest = widest = 0
        for number, missing in queue.missing.items():
            task = queue.tasks[number]
            variants = missing[:1] if self.apart else missing
            if self.apart and batch and variants != [batch[0].variant]:
                break
            first = queue.tasks[batch[0].task] if batch else task
            if layout == "equal" and (task.tokens, task.lengths) != (first.tokens, first.lengths):
                break
            heaviest, widest = max(heaviest, task.bytes), max(widest, task.tokens)
            room = min(1 if layout == "single" else most, budget // max(1, heaviest))
            if in_one_pass:
                room = min(room, self.at_once(widest))
            if batch and len(batch) + len(variants) > room:
                break
            batch += [Slot(number, variant) for variant in variants[: max(1, room)]]
        return batch

    def room(self, tokens: int) -> int:
        """The longest answer to a prompt of so many tokens: the last token of an answer is never read back."""
        positions = self.live.positions
        return positions - tokens + 1 if positions else 1 << 30


def stacked_sigma(
    live: "LiveModel", variants: Mapping[str, Variant | None]
) -> dict[str, Float64[ndarray, "variant rank"]]:
    """σ of all variants by module, the adapter's own where a variant leaves a module alone.

    Modules that no variant names are left out. Raises `PolicyError` for σ of another adapter.
    """
    try:
        for sigma in variants.values():
            live.set_sigma(sigma)
    finally:
        live.set_sigma(None)
    touched = dict.fromkeys(name for sigma in variants.values() for name in sigma or ())
    return {
        name: np.stack([(sigma or {}).get(name, live.spectra[name].sigma) for sigma in variants.values()])
        for name in touched
    }


def _on_device(live: "LiveModel", stacks: Mapping[str, Float64[ndarray, "variant rank"]]) -> "dict[str, Tensor]":
    """On the device and in the precision of the live layers' own σ, so that rows are picked there."""
    import torch

    precise = torch.promote_types(next(live.model.parameters()).dtype, torch.float32)
    return {name: torch.as_tensor(sigma).to(live.device, precise) for name, sigma in stacks.items()}
