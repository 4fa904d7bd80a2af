"""One forward pass over a batch of prompts, from which answers are both scored and generated.

The prompt is most of the work and the same for both, so its key-value cache is kept: the answer
loss continues from a copy of it, greedy decoding from the cache itself.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surgery.calibration import IGNORED, Example
from surgery.live import LiveModel
from surgery.sensitivity import mean_answer_loss, padding_id


class Prompts:
    """Prompts padded on the left, run once through the live model at the σ it holds now."""

    def __init__(self, live: LiveModel, examples: Sequence[Example]) -> None:
        self._model = live.model
        self._tokenizer = live.base.tokenizer
        self._pad = padding_id(self._tokenizer)
        self._examples = examples
        device = live.device
        width = max(len(example.prompt_ids) for example in examples)
        pads = [width - len(example.prompt_ids) for example in examples]
        rows = zip(pads, examples, strict=True)
        ids = torch.tensor([[self._pad] * pad + list(example.prompt_ids) for pad, example in rows])
        self._mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads], device=device)
        self._lengths = self._mask.sum(dim=1, keepdim=True)
        output = self._model(
            input_ids=ids.to(device),
            attention_mask=self._mask,
            position_ids=(self._mask.cumsum(1) - 1).clamp(min=0),
            use_cache=True,
            logits_to_keep=1,
        )
        self._cache = output.past_key_values
        self._next: Float[Tensor, "example vocabulary"] = output.logits[:, -1]

    def answer_losses(self) -> Float[Tensor, "example"]:
        """Mean cross-entropy of each example's own answer, teacher-forced, in nats per token."""
        width = max(len(example.answer_ids) for example in self._examples)
        padded = [[*e.answer_ids, *[IGNORED] * (width - len(e.answer_ids))] for e in self._examples]
        labels = torch.tensor(padded, device=self._mask.device)
        logits = self._next[:, None]
        if width > 1:
            given = labels[:, :-1]
            mask = torch.cat([self._mask, (given != IGNORED).long()], dim=1)
            following = self._continue(given.clamp(min=0), mask, deepcopy(self._cache))
            logits = torch.cat([logits, following], dim=1)
        return mean_answer_loss(logits, labels)

    def greedy_answers(self, limit: int) -> list[str]:
        """The stripped text of up to `limit` greedy tokens, cut at end of sequence. Uses up the cache."""
        rows = torch.stack(list(self.greedy_tokens(limit)), dim=1).tolist()
        kept = [[token for token in row if token >= 0] for row in rows]
        return [text.strip() for text in self._tokenizer.batch_decode(kept, skip_special_tokens=True)]

    @torch.inference_mode()  # on a generator it covers the steps, not what their consumer does between them
    def greedy_tokens(self, limit: int) -> Iterator[Int[Tensor, "example"]]:
        """Up to `limit` greedy tokens of every example, step by step; -1 from its end on. Uses up the cache."""
        ends = torch.tensor(self._end_ids(), device=self._mask.device)
        ended = torch.zeros(len(self._examples), dtype=torch.bool, device=self._mask.device)
        chosen, mask = self._next.argmax(dim=-1), self._mask
        for count in range(1, limit + 1):
            ended = ended | torch.isin(chosen, ends)
            yield torch.where(ended, -1, chosen)
            if count == limit or bool(ended.all()):
                return
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            logits = self._continue(chosen[:, None], mask, self._cache)[:, -1]
            chosen = torch.where(ended, self._pad, logits.argmax(dim=-1))

    def _continue(
        self, ids: Int[Tensor, "example token"], mask: Int[Tensor, "example seen"], cache: Any
    ) -> Float[Tensor, "example token vocabulary"]:
        """Logits after `ids`, appended to `cache`; `mask` covers prompt, earlier answer and `ids`."""
        first = mask.shape[1] - self._mask.shape[1] - ids.shape[1]
        output = self._model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=self._lengths + torch.arange(first, first + ids.shape[1], device=ids.device),
            past_key_values=cache,
            use_cache=True,
        )
        logits: Tensor = output.logits
        return logits

    def _end_ids(self) -> list[int]:
        """Every end-of-sequence id that the tokenizer or the model's generation settings name."""
        named = getattr(self._model.generation_config, "eos_token_id", None)
        ids = named if isinstance(named, list) else [named]
        return sorted({int(i) for i in [*ids, self._tokenizer.eos_token_id] if i is not None}) or [-2]
