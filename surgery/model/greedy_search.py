"""Greedy search for a batch of prompts whose rows have variants of their own: prefill, then token by token.

Rows that have ended leave the batch. What all prompts begin with is read once for each variant.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from surgery.adapter import CAUSAL_LM
from surgery.data import Example
from surgery.errors import DataError, RowsMixedError
from surgery.model.batches import Batch, run_batches
from surgery.model.loss import measured_losses
from surgery.model.queue import Queue, Slot, Tally, Task, common_prefix, same_inputs
from surgery.model.variant_rows import VariantRows
from surgery.progress import Control

if TYPE_CHECKING:
    from surgery.model.decoding import SharedPrefix
    from surgery.model.rereading import Read, Text

Stop = Callable[[int, Sequence[int]], bool]
# tokens in common from which a pass of their own is worth it
_WORTH = 8


@dataclass(frozen=True)
class Continuation:
    """Request for a greedy answer to a prompt, and for the loss of an answer of its own where that is not empty.

    prompt, answer: token ids.
    limit: most tokens of the greedy answer.
    opening: see `Example`.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    limit: int
    opening: int | None = None


@dataclass(frozen=True)
class Answered:
    """One example: mean cross-entropy of its own answer in nats per token, and the tokens of the greedy one."""

    loss: float
    tokens: list[int]


@dataclass
class _Row:
    """State of one slot: requests that wait for more, greedy tokens so far, loss of its own answer."""

    waiting: list[int]
    tokens: list[int] = field(default_factory=list)
    loss: float | None = None


class Decoding:
    """The greedy search of one engine call, over all of its batches.

    Tokens and losses outlive a batch, so that a row whose batch is halved goes on from what it has said.

    rows: the variants in the running model.
    requests: equal ones are decoded once, to the longest limit among them.
    tally: where answers go, each as soon as it ends; the loss of an empty answer is NaN.
    stop: called with a request's number and its tokens so far; true ends that answer.
    control: polled between forward passes.
    ends: ids that end an answer beside those of the tokenizer and the generation settings.
    """

    def __init__(
        self,
        rows: VariantRows,
        requests: Sequence[Continuation],
        tally: Tally[Answered],
        stop: Stop | None,
        control: Control,
        ends: frozenset[int] = frozenset(),
    ) -> None:
        from surgery.model.decoding import end_ids
        from surgery.model.rereading import beginning

        self._inputs, wanted = same_inputs([(request.prompt, request.answer) for request in requests])
        self._task_name = rows.live.base.task
        rows.live.check_positions(max((self._example(i).span for i in range(len(self._inputs))), default=0))
        rows.live.check_tokens([(*prompt, *answer) for prompt, answer in self._inputs])
        if any(not prompt for prompt, _ in self._inputs):
            raise DataError("a prompt has no tokens", "give it one or more")
        # an encoder's prompt takes no place of the answer's, whose own start takes one
        taken = [len(request.prompt) if self._task_name == CAUSAL_LM else 1 for request in requests]
        self._limits = [
            min(request.limit, rows.room(before)) for request, before in zip(requests, taken, strict=True)
        ]
        self._begin = [
            beginning(rows.live, requests[each[0]].answer, requests[each[0]].opening) for each in wanted
        ]
        self._way = rows.live.way
        self._rows, self._tally, self._stop, self._control = rows, tally, stop, control
        self._ends = end_ids(rows.live) | ends
        self._open: dict[Slot, _Row] = {}
        self._prefix_ids = common_prefix([prompt for prompt, _ in self._inputs])
        self._prefix: SharedPrefix | None = None
        self._prefix_tried = False
        self.queue = Queue([self._task(i, each) for i, each in enumerate(wanted)], range(rows.count))

    def _task(self, index: int, wanted: tuple[int, ...]) -> Task:
        prompt, answer = self._inputs[index]
        longest = len(prompt) + max(len(answer), *(self._limits[request] for request in wanted))
        footprint = self._rows.footprint
        return Task(wanted, len(prompt), longest * footprint.cached + footprint.logits)

    def run(self, batch: Sequence[Slot]) -> None:
        """Decode the rows of a batch until all of them have ended, or those that could be read together."""
        for slot in batch:
            self._open.setdefault(slot, _Row(list(self.queue.tasks[slot.task].wanted)))
        slots, prompts = self._read(batch)
        while True:
            chosen = [self._forced(slot, token) for slot, token in zip(slots, prompts.chosen, strict=True)]
            staying = [row for row, slot in enumerate(slots) if self._goes_on(slot, chosen[row])]
            self._tell([slots[row] for row in staying])
            if not staying:
                return
            self._control.heed()
            if len(staying) < len(slots):
                slots = [slots[row] for row in staying]
                self._rows.choose([slot.variant for slot in slots])
                prompts.keep(staying)
            prompts.advance([chosen[row] for row in staying])

    def _forced(self, slot: Slot, token: int) -> int:
        """The next token of a row: the most likely one, but for a first one that answers have to begin with."""
        first = self._begin[slot.task].first
        return token if first is None or self._open[slot].tokens else first

    def _tell(self, slots: Sequence[Slot]) -> None:
        """Tell of the tokens that rows have read, their own answers included, and written."""
        for slot in slots:
            row = self._open[slot]
            read = sum(map(len, self._inputs[slot.task]))
            for request in row.waiting:
                self._tally.reached(request, slot.variant, read + len(row.tokens))
        self._tally.tell()

    def _goes_on(self, slot: Slot, token: int) -> bool:
        """Take the next token of a row; whether any request that the row answers needs more."""
        row = self._open[slot]
        ended = token in self._ends
        if not ended:
            row.tokens.append(token)
        over = [request for request in row.waiting if ended or self._is_over(request, row.tokens)]
        row.waiting = [request for request in row.waiting if request not in over]
        if not row.waiting:
            self.queue.finish(slot)
            del self._open[slot]
        for request in over:
            loss = math.nan if row.loss is None else row.loss
            self._tally.put(request, slot.variant, Answered(loss, list(row.tokens)))
        return bool(row.waiting)

    def _is_over(self, request: int, tokens: Sequence[int]) -> bool:
        return len(tokens) >= self._limits[request] or (self._stop is not None and self._stop(request, tokens))

    def _text(self, slot: Slot) -> "Text":
        """What a row has read before its next token."""
        from surgery.model.rereading import Text

        prompt, tokens = self._inputs[slot.task][0], self._open[slot].tokens
        return Text(prompt, tuple(tokens), self._begin[slot.task].start)

    def _read(self, batch: Sequence[Slot]) -> "tuple[list[Slot], Read]":
        """Read a batch, in parts that one forward pass can take, and score the rows' own answers.

        Where the parts cannot be put together again, the first one is all that is read.
        """
        from surgery.model.rereading import read_prompts

        prefix = self._shared_prefix()
        texts = [self._text(slot) for slot in batch]
        # what a batch that did not fit has said already makes rows longer than others
        chosen = [row for row, text in enumerate(texts) if text.stands_with(texts[0], self._way.decoding)]
        batch, texts = [batch[row] for row in chosen], [texts[row] for row in chosen]
        width = max(text.width for text in texts)
        size = self._rows.at_once(width - (prefix.length if prefix else 0))
        parts: list[Any] = []
        for begin in range(0, len(batch), size):
            if parts:
                self._control.heed()
                if not parts[0].joinable:
                    batch = batch[:begin]
                    break
            part, ids = batch[begin : begin + size], texts[begin : begin + size]
            variants = [slot.variant for slot in part]
            self._rows.choose(variants)
            parts.append(read_prompts(self._rows.live, ids, width=width, prefix=prefix, variants=variants))
            self._score(part, parts[-1])
            self._tell(part)
        if len(parts) > 1:
            self._rows.choose([slot.variant for slot in batch])
            parts[0].join(parts[1:])
        return list(batch), parts[0]

    def _score(self, part: Sequence[Slot], prompts: "Read") -> None:
        """Take the losses of the rows' own answers, where they have one and have said nothing yet."""
        from surgery.model.reading import Scorable

        answers = [self._inputs[slot.task][1] for slot in part]
        # a row that has said something is past the place where its answer begins, and was scored before
        fresh = [row for row, slot in enumerate(part) if answers[row] and self._open[slot].loss is None]
        if fresh and self._way.follows and isinstance(prompts, Scorable):
            losses = prompts.answer_losses([answer or (0,) for answer in answers])
            for row in fresh:
                self._open[part[row]].loss = losses[row]
        elif fresh:
            self._score_whole([part[row] for row in fresh])
            self._rows.choose([slot.variant for slot in part])

    def _score_whole(self, slots: Sequence[Slot]) -> None:
        """Take the losses of rows' own answers from passes over prompt and answer."""
        examples = [self._example(slot.task) for slot in slots]

        def step(batch: Batch) -> None:
            self._rows.choose([slots[i].variant for i in batch.indices])
            for i, loss in zip(batch.indices, measured_losses(self._rows.live.model, batch), strict=True):
                self._open[slots[i]].loss = loss

        padding = self._rows.live.base.padding
        run_batches(examples, len(examples), padding, step, layout=self._way.scoring)

    def _example(self, number: int) -> Example:
        return Example("", *self._inputs[number], "", task=self._task_name)

    def _shared_prefix(self) -> "SharedPrefix | None":
        """KV cache of what all prompts begin with; None where that is short or cannot be shared."""
        if self._rows.apart or not self._way.shared:
            return None
        if not self._prefix_tried and len(self._prefix_ids) >= _WORTH:
            self._prefix_tried = True  # first: what does not fit into memory is not tried again
            size = self._rows.count * len(self._prefix_ids) * self._rows.footprint.cached
            if size <= self._rows.budget / 4:
                self._prefix = self._read_prefix()
        return self._prefix

    def _read_prefix(self) -> "SharedPrefix | None":
        from surgery.model.decoding import Prompts

        count = self._rows.count
        size = self._rows.at_once(len(self._prefix_ids))
        parts: list[Prompts] = []
        try:
            for begin in range(0, count, size):
                part = range(begin, min(begin + size, count))
                self._rows.choose(part)
                parts.append(Prompts(self._rows.live, [self._prefix_ids] * len(part)))
        except RowsMixedError:
            if count == 1:
                raise
            self._rows.apart = True
            return None
        if parts[0].as_prefix() is None:
            return None
        parts[0].join(parts[1:])
        return parts[0].as_prefix()


def only_tokens(
    done: Callable[[int, Mapping[str, list[int]]], None],
) -> Callable[[int, Mapping[str, Answered]], None]:
    """A listener that is told the tokens of answers, from one that wants nothing else of them."""
    return lambda index, found: done(index, {name: answer.tokens for name, answer in found.items()})
