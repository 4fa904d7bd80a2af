"""Rows read to be gone on with, in the live model's way; without a cache every token reads its whole row again."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from surgery.adapter import SEQ_2_SEQ_LM
from surgery.model.decoding import Prompts, SharedPrefix, last_logits
from surgery.model.encoder_decoder import EncodedPrompts, decoder_start, first_token
from surgery.model.live_model import LiveModel
from surgery.model.reading import Reading
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


Read = Prompts | EncodedPrompts | Reread


@dataclass(frozen=True)
class Beginning:
    """How answers begin: `start` is what the decoder of a sequence-to-sequence model reads before anything is written,
    `first` the token that has to be written first; None where there is none.
    """

    start: int | None = None
    first: int | None = None


def beginning(live: LiveModel, answer: Sequence[int] = (), opening: int | None = None) -> Beginning:
    """How the answers to a row begin; `answer` and `opening` are those of its example.

    Raises `BaseModelError` for a sequence-to-sequence model that names no start.
    """
    if live.base.task != SEQ_2_SEQ_LM:
        return Beginning()
    return Beginning(decoder_start(live, answer), first_token(live, opening))


@dataclass(frozen=True)
class Text:
    """What a row has read before its next token: its prompt, what it has written, and the start of its decoder."""

    prompt: tuple[int, ...]
    written: tuple[int, ...] = ()
    start: int | None = None

    @property
    def width(self) -> int:
        """Tokens that are padded to one width: a decoder's are not among them."""
        return len(self.prompt) + (len(self.written) if self.start is None else 0)

    def stands_with(self, other: "Text", layout: Layout) -> bool:
        """Whether both may be rows of one batch in this layout."""
        same = layout != "equal" or self.width == other.width
        return same and (self.start is None or len(self.written) == len(other.written))


def read_prompts(
    live: LiveModel,
    texts: Sequence[Text],
    *,
    width: int | None = None,
    prefix: SharedPrefix | None = None,
    variants: Sequence[int] = (),
) -> Read:
    """Rows read in the live model's way, to be gone on with; arguments as those of `Prompts`."""
    way = live.way
    if live.base.task == SEQ_2_SEQ_LM:
        prompts, written = [text.prompt for text in texts], [(text.start or 0, *text.written) for text in texts]
        return EncodedPrompts(live, prompts, written, layout=way.decoding, width=width, cached=way.cached)
    rows = [(*text.prompt, *text.written) for text in texts]
    if not way.cached:
        return Reread(live, rows, way.decoding)
    return Prompts(live, rows, layout=way.decoding, width=width, prefix=prefix, variants=variants)
