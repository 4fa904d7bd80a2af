"""KV-cached forward passes of a padded batch: prefill, score, decode."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from surgery.data import IGNORED
from surgery.model.live_model import LiveModel
from surgery.model.loss import padding_id
from surgery.model.reading import Scorable
from surgery.model.ways import Layout

# what models call their cache, as an argument and in what they return: transformers renamed it from `past_key_values`
CACHE = "cache" if "cache" in {field.name for field in fields(CausalLMOutputWithPast)} else "past_key_values"


class Prompts(Scorable):
    """Prefilled rows of a batch: their KV cache, and the logits of their next token.

    live: holds the σ of the rows.
    prompts: token ids of each row.
    layout: `left` for rows that are padded on the left, another for rows of one length.
    width: what rows are padded to, so that they can be joined with longer ones.
    prefix: what every prompt begins with and is not to be read again.
    variants: the row of the prefix from which each prompt goes on.
    """

    @torch.inference_mode()
    def __init__(
        self,
        live: LiveModel,
        prompts: Sequence[Sequence[int]],
        *,
        layout: Layout = "left",
        width: int | None = None,
        prefix: "SharedPrefix | None" = None,
        variants: Sequence[int] = (),
    ) -> None:
        self._model, self._padded = live.model, layout == "left"
        self._cache: Any = None
        skipped = prefix.length if prefix else 0
        ids, mask = padded(live, [prompt[skipped:] for prompt in prompts], width=width and width - skipped)
        if prefix is None:
            self._ids, self._mask = ids, mask
            self._read()
        else:
            self._read_after(prefix, variants, ids, mask)

    def _read(self) -> None:
        output = self._model(
            input_ids=self._ids, **self._where(self._mask, positions(self._mask)), use_cache=True, logits_to_keep=1
        )
        self._cache = getattr(output, CACHE, None)
        self._next = output.logits[:, -1]

    def _read_after(
        self,
        prefix: "SharedPrefix",
        variants: Sequence[int],
        ids: Int[Tensor, "row token"],
        mask: Int[Tensor, "row token"],
    ) -> None:
        """Read the ids that follow the prefix, on a copy of its cache."""
        head = prefix.ids.expand(len(ids), -1)
        self._ids, self._mask = torch.cat([head, ids], dim=1), torch.cat([torch.ones_like(head), mask], dim=1)
        self._cache = prefix.cache(variants)
        output = self._model(
            input_ids=ids,
            **self._where(self._mask, prefix.length + positions(mask)),
            use_cache=True,
            logits_to_keep=1,
            **{CACHE: self._cache},
        )
        self._next = output.logits[:, -1]

    def _where(self, mask: Int[Tensor, "row seen"], places: Int[Tensor, "row token"]) -> dict[str, Tensor]:
        """What the model is told of padding: nothing where there is none."""
        return {"attention_mask": mask, "position_ids": places} if self._padded else {}

    @property
    def kept(self) -> bool:
        """Whether the model has returned a cache; without one, these rows cannot be gone on with."""
        return self._cache is not None

    @property
    def joinable(self) -> bool:
        """Whether the caches of several such objects can be put together, row under row."""
        return type(self._cache) is DynamicCache and all(
            type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in self._cache.layers
        )

    def as_prefix(self) -> "SharedPrefix | None":
        """What these rows have read as the beginning of others; None where the model's cache cannot be gone on from
        with padding after it, as of layers that look back a fixed number of places."""
        if type(self._cache) is not DynamicCache or any(
            type(each) is not DynamicLayer for each in self._cache.layers
        ):
            return None
        return SharedPrefix(self._ids[:1], self._cache)

    @torch.inference_mode()
    def join(self, others: "Sequence[Prompts]") -> None:
        """Take over the rows of `others`, of the same width; they are of no use afterwards."""
        everyone = [self, *others]
        self._ids = torch.cat([each._ids for each in everyone])
        self._mask = torch.cat([each._mask for each in everyone])
        self._next = torch.cat([each._next for each in everyone])
        # layer by layer, so that no more than one layer is held twice
        for layers in zip(*(each._cache.layers for each in everyone), strict=True):
            if layers[0].get_seq_length():
                layers[0].keys = torch.cat([layer.keys for layer in layers])
                layers[0].values = torch.cat([layer.values for layer in layers])
            for layer in layers[1:]:
                layer.keys = layer.values = None

    @torch.inference_mode()
    def answer_logits(self, answers: Sequence[Sequence[int]]) -> Float[Tensor, "row token vocabulary"]:
        """Logits before each token of each row's own answer, after the longest's length. The state stays."""
        given = self._labels(answers)[:, :-1]
        logits = self._next[:, None]
        if not given.shape[1]:
            return logits
        mask = torch.cat([self._mask, (given != IGNORED).long()], dim=1)
        following = self._continue(given.clamp(min=0), mask, deepcopy(self._cache))
        return torch.cat([logits, following], dim=1)

    @torch.inference_mode()
    def advance(self, tokens: Sequence[int]) -> None:
        """Append one token to every row."""
        given = torch.tensor(tokens, device=self._ids.device)[:, None]
        mask = torch.cat([self._mask, torch.ones_like(given)], dim=1)
        self._next = self._continue(given, mask, self._cache)[:, -1]
        self._ids, self._mask = torch.cat([self._ids, given], dim=1), mask

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        """Go on with some of the rows. The live model must hold their σ already."""
        index = torch.tensor(rows, device=self._ids.device)
        self._ids, self._mask, self._next = self._ids[index], self._mask[index], self._next[index]
        if is_selectable(self._cache):
            self._cache.reorder_cache(index)
        else:
            self._cache = None  # first, so that both are not held at once
            self._read()

    def _continue(
        self, ids: Int[Tensor, "row token"], mask: Int[Tensor, "row seen"], cache: Any
    ) -> Float[Tensor, "row token vocabulary"]:
        """Logits after `ids`, appended to `cache`; `mask` covers what was read and `ids`."""
        count = ids.shape[1]
        seen = self._mask.sum(dim=1, keepdim=True)
        output = self._model(
            input_ids=ids,
            **self._where(mask, seen + torch.arange(count, device=ids.device)),
            use_cache=True,
            **{CACHE: cache},
        )
        logits: Tensor = output.logits[:, -count:]
        return logits


class SharedPrefix:
    """KV cache of the tokens that prompts begin with, a row for each variant; `ids` has the shape (1, token)."""

    def __init__(self, ids: Int[Tensor, "1 token"], cache: Any) -> None:
        self.ids, self._cache = ids, cache

    @property
    def length(self) -> int:
        return self.ids.shape[1]

    def cache(self, variants: Sequence[int]) -> Any:
        """A cache of its own for rows of these variants."""
        index = torch.tensor(variants, device=self.ids.device)
        fresh = DynamicCache()
        for number, layer in enumerate(self._cache.layers):
            if layer.get_seq_length():
                fresh.update(layer.keys[index], layer.values[index], number)
        return fresh


@torch.inference_mode()
def continuation_scores(
    live: LiveModel,
    rows: Sequence[Sequence[int]],
    continuations: Sequence[Sequence[Sequence[int]]],
    layout: Layout = "left",
) -> list[list[tuple[float, bool]]]:
    """Log likelihood (nats) of each row's continuations, and whether greedy decoding would write them.

    A row holds everything that is read: the context and a continuation without its last token, so one row serves
    all continuations that differ in that token alone. `layout` says how the rows stand. Computed in float32 or better.
    """
    longest = max(len(targets) for several in continuations for targets in several)
    logits = last_logits(live, rows, longest, layout)
    choice = logits.argmax(dim=-1)
    logs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(dim=-1)
    row = torch.tensor([r for r, several in enumerate(continuations) for _ in several], device=logs.device)
    flat = [[*[IGNORED] * (longest - len(targets)), *targets] for several in continuations for targets in several]
    targets = torch.tensor(flat, device=logs.device)
    counted = targets != IGNORED
    steps = torch.arange(longest, device=logs.device)
    picked = logs[row[:, None], steps, targets.clamp(min=0)].double()
    totals = torch.where(counted, picked, 0.0).sum(dim=1).tolist()
    agree = ((choice[row] == targets) | ~counted).all(dim=1).tolist()
    scores = iter(zip(totals, agree, strict=True))
    return [[next(scores) for _ in several] for several in continuations]


def last_logits(
    live: LiveModel, rows: Sequence[Sequence[int]], count: int, layout: Layout
) -> Float[Tensor, "row token vocabulary"]:
    """Logits after each of the last `count` tokens of every row, read whole and without a cache.

    A row of fewer tokens has any numbers in front of its own.
    """
    ids, mask = padded(live, rows, layout=layout)
    where = {} if layout in ("equal", "single") else {"attention_mask": mask, "position_ids": positions(mask)}
    behind = [ids.shape[1] - len(row) if layout == "right" else 0 for row in rows]
    keep = min(count + max(behind), ids.shape[1])
    output = live.model(input_ids=ids, **where, use_cache=False, logits_to_keep=keep)
    logits: Tensor = output.logits[:, -keep:]
    if not any(behind):
        return logits
    ends = torch.tensor([keep - places for places in behind], device=logits.device)
    places = ends[:, None] - count + torch.arange(count, device=logits.device)
    return logits[torch.arange(len(rows), device=logits.device)[:, None], places.clamp(min=0)]


def padded(
    live: LiveModel, rows: Sequence[Sequence[int]], *, width: int | None = None, layout: Layout = "left"
) -> tuple[Int[Tensor, "row token"], Int[Tensor, "row token"]]:
    """Token ids padded to one width, and 1 where a token is real, on the model's device."""
    width = width or max(len(row) for row in rows)
    pad = padding_id(live.base.tokenizer)
    ids, mask = [], []
    for row in rows:
        lacking = [0] * (width - len(row))
        real, blank = [1] * len(row), [pad] * len(lacking)
        ids.append([*row, *blank] if layout == "right" else [*blank, *row])
        mask.append(real + lacking if layout == "right" else lacking + real)
    return torch.tensor(ids, device=live.device), torch.tensor(mask, device=live.device)


def positions(mask: Int[Tensor, "row token"]) -> Int[Tensor, "row token"]:
    """Positions that count real tokens only."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def end_ids(live: LiveModel) -> frozenset[int]:
    """Every end-of-sequence id that the tokenizer or the model's generation settings name."""
    named = getattr(getattr(live.model, "generation_config", None), "eos_token_id", None)
    ids = named if isinstance(named, list) else [named]
    return frozenset(int(i) for i in [*ids, live.base.tokenizer.eos_token_id] if i is not None)


def is_selectable(cache: Any) -> bool:
    """Whether all of a cache follows when its rows are selected: those of transformers' own kinds do."""
    return type(cache) is DynamicCache and all(
        type(layer).__module__ == DynamicLayer.__module__ for layer in cache.layers
    )
