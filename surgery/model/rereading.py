"""Greedy decoding without a cache: every token reads its whole row again, as one row alone is read."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from surgery.model.decoding import Prompts, Reading, SharedPrefix, last_logits
from surgery.model.live_model import LiveModel
from surgery.model.ways import Layout


class Reread(Reading):
    """Rows of a batch and the logits of their next token, for models whose caches cannot be gone on with.

    live: holds the σ of the rows.
    prompts: token ids of each row.
    layout: how the rows stand.
    """

    joinable = True

    def __init__(self, live: LiveModel, prompts: Sequence[Sequence[int]], layout: Layout) -> None:
        self._live, self._layout = live, layout
        self._rows = [list(prompt) for prompt in prompts]
        self._next = self._read()

    @torch.inference_mode()
    def _read(self) -> Float[Tensor, "row vocabulary"]:
        return last_logits(self._live, self._rows, 1, self._layout)[:, -1]

    def join(self, others: "Sequence[Reread]") -> None:
        """Take over the rows of `others`; they are of no use afterwards."""
        self._rows += [row for each in others for row in each._rows]
        self._next = torch.cat([self._next, *(each._next for each in others)])

    def advance(self, tokens: Sequence[int]) -> None:
        """Append one token to every row."""
        for row, token in zip(self._rows, tokens, strict=True):
            row.append(token)
        self._next = self._read()

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows. The live model must hold their σ already."""
        self._rows = [self._rows[row] for row in rows]
        self._next = self._next[list(rows)]


def read_prompts(
    live: LiveModel,
    prompts: Sequence[Sequence[int]],
    *,
    width: int | None = None,
    prefix: SharedPrefix | None = None,
    variants: Sequence[int] = (),
) -> Prompts | Reread:
    """Rows of token ids, read in the live model's way, to be gone on with; arguments as those of `Prompts`."""
    way = live.way
    if not way.cached:
        return Reread(live, prompts, way.decoding)
    return Prompts(live, prompts, layout=way.decoding, width=width, prefix=prefix, variants=variants)
