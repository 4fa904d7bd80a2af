"""How the rows of a probe are read for each task: one alone with nothing else given, and several to be gone on with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from surgery.adapter import SEQ_2_SEQ_LM, SEQ_CLS
from surgery.data import CLASSIFIERS, Example
from surgery.errors import BaseModelError
from surgery.model.decoding import Prompts
from surgery.model.encoder_decoder import EncodedPrompts, decoder_start, shifted_start
from surgery.model.live_model import LiveModel
from surgery.model.rereading import Read, Reread
from surgery.model.ways import Way

ANSWERS = (3, 3, 2)  # tokens that are scored of each answer


@dataclass(frozen=True)
class Readers:
    """The readers of one live model.

    prompts, answers: token ids of each row of the probe.
    choose: puts the σ of rows into the live model.
    opening: what the prompts begin with.
    """

    live: LiveModel
    prompts: Sequence[tuple[int, ...]]
    answers: Sequence[tuple[int, ...]]
    choose: Callable[[Sequence[int]], None]
    opening: tuple[int, ...]

    @torch.inference_mode()
    def alone(self, row: int) -> Float[Tensor, "token vocabulary"]:
        """Logits before each token of a row's answer, the row read by itself: no padding, mask, positions or cache."""
        live, prompt, answer = self.live, self.prompts[row], self.answers[row]
        self.choose([row])
        if live.base.task == SEQ_2_SEQ_LM:
            decoded = torch.tensor([[self._start(row), *answer[:-1]]], device=live.device)
            encoded = torch.tensor([prompt], device=live.device)
            whole: Tensor = live.model(input_ids=encoded, decoder_input_ids=decoded, use_cache=False).logits
            return whole[0]
        if live.base.task in CLASSIFIERS:
            alone = live.model(input_ids=torch.tensor([self.example(row).prompt_ids], device=live.device)).logits
            return alone if live.base.task == SEQ_CLS else alone[0]
        ids = torch.tensor([[*prompt, *answer[:-1]]], device=live.device)
        logits: Tensor = live.model(input_ids=ids, use_cache=False).logits
        return logits[0, len(prompt) - 1 :]

    def example(self, row: int) -> Example:
        """A row with the labels that are scored of it; a classifier reads it up to the end that its tokenizer writes."""
        prompt, answer, task = self.prompts[row], self.answers[row], self.live.base.task
        if task not in CLASSIFIERS:
            return Example("", prompt, answer[: ANSWERS[row]], "", task=task)
        ids = (*prompt, *_end(self.live.base.tokenizer))
        return Example("", ids, (0,) if task == SEQ_CLS else (0,) * len(ids), "", task=task)

    def together(self, way: Way, group: Sequence[int]) -> Read:
        """Rows read in two parts and joined, as large batches are, where their cache allows it."""
        prompts = [self.prompts[row] for row in group]
        if not way.cached and self.live.base.task != SEQ_2_SEQ_LM:
            self.choose(group)
            return Reread(self.live, prompts, way.decoding)
        read = self._encoded(way, group) if self.live.base.task == SEQ_2_SEQ_LM else self._cached(way, group)
        parts: list[Any] = []
        for part in (slice(0, -1), slice(-1, None)) if len(group) > 1 else (slice(None),):
            self.choose(group[part])
            parts.append(read(range(len(group))[part]))
            if not parts[0].kept:
                raise BaseModelError("the model returns no cache", "decode without one")
            if not parts[0].joinable and len(group) > 1:
                self.choose(group)
                return read(range(len(group)))
        self.choose(group)
        if len(parts) > 1:
            parts[0].join(parts[1:])
        joined: Read = parts[0]
        return joined

    def _cached(self, way: Way, group: Sequence[int]) -> Callable[[range], Read]:
        prompts = [self.prompts[row] for row in group]
        prefix = None
        if way.shared:
            self.choose(group)
            prefix = Prompts(self.live, [self.opening] * len(group)).as_prefix()
        options: dict[str, Any] = {"layout": way.decoding, "width": max(map(len, prompts)), "prefix": prefix}
        return lambda part: Prompts(self.live, [prompts[i] for i in part], variants=part, **options)

    def _encoded(self, way: Way, group: Sequence[int]) -> Callable[[range], Read]:
        prompts, starts = [self.prompts[row] for row in group], [[self._start(row)] for row in group]
        options: dict[str, Any] = {"layout": way.decoding, "width": max(map(len, prompts)), "cached": way.cached}
        return lambda part: EncodedPrompts(
            self.live, [prompts[i] for i in part], [starts[i] for i in part], **options
        )

    def _start(self, row: int) -> int:
        start = shifted_start(self.live, self.answers[row])
        return decoder_start(self.live) if start is None else start


def _end(tokenizer: Any) -> tuple[int, ...]:
    """The end of sequence that a tokenizer writes after every text, which some classifiers look for."""
    ids = tuple(tokenizer("a").input_ids)
    return ids[-1:] if ids and ids[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id) else ()
