"""Several variants of an adapter at once: likelihoods, losses, divergences and greedy decoding, each row with its own σ.

A batch carries all variants of a request, so that what a forward pass costs whatever it computes, the reading
of the weights above all, is paid once for all of them. Results per variant equal separate runs: identical
tokens in float32, numbers up to rounding elsewhere. Variants differ in every edited layer and so in all keys
and values above the first, so each row has its own cache, also of a prompt that all of them share.

Layers that cannot tell rows apart, such as the stacked weights of experts, get one variant after the other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import Example
from surgery.errors import DataError
from surgery.model.batch_runner import BatchRunner
from surgery.model.batches import Batch, collate
from surgery.model.classified import Classified, classified
from surgery.model.divergence import Divergence, Divergences
from surgery.model.greedy_search import Answered, Continuation, Decoding, Stop, only_tokens
from surgery.model.loss import measured_losses
from surgery.model.queue import (
    Queue,
    Scored,
    Slot,
    Tally,
    Task,
    answer_tokens,
    pair_tokens,
    same_inputs,
    text_tokens,
)
from surgery.model.variant_rows import Variant, VariantRows
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from surgery.model.live_model import LiveModel

T = TypeVar("T")
# rows decoded together, above which each costs as much
_ROWS_AT_ONCE = {"cpu": 128}
_ROWS = 2048


class VariantEngine:
    """Batched inference of several variants of one live model.

    live: the engine's during a call; holds the adapter's own σ after it.
    variants: σ′ by module, None for the unedited adapter. They are not compared: one that equals another is run
        all the same.
    rows: most rows of a batch (variants × requests), fewer where memory asks for it; without it memory alone
        decides. A batch that does not fit all the same is halved, and the work goes on where it stopped.

    In every call, requests are taken longest first and answered in the caller's order; equal ones are computed
    once. Calls share two arguments:

    done: called with a request's index and its results by variant, once all variants have finished it.
    control: its progress, told after that, counts requests × variants; its tokens are those of all of them.

    Calls raise `Cancelled` when `control` says so, and `DataError` for a request that is empty, exceeds the
    model's positions or does not fit into memory.
    """

    def __init__(
        self, live: "LiveModel", variants: Mapping[str, Variant | None], *, rows: int | None = None
    ) -> None:
        if not variants:
            raise DataError("no variant was given", "name one or more")
        if rows is not None and rows < 1:
            raise DataError(f"a batch of {rows} rows was asked for", "use 1 or more")
        self._live, self._names = live, tuple(variants)
        self._rows = VariantRows(live, variants)
        self._runner = BatchRunner(self._rows, min(rows or _ROWS, _ROWS_AT_ONCE.get(live.device.type, _ROWS)))
        self._decoded = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader has to know of how the rows were read; nothing where it was the fastest way."""
        return self._live.notes if self._decoded else self._live.scoring_notes

    @property
    def references(self) -> tuple[str, ...]:
        """The variants that `divergences` may measure from: all of them."""
        return self._names

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a classifier by number."""
        return self._live.base.labels

    def log_likelihoods(
        self,
        requests: Sequence[tuple[Sequence[int], Sequence[int]]],
        *,
        control: Control = SILENT,
        done: Callable[[int, Mapping[str, Scored]], None] | None = None,
    ) -> dict[str, list[Scored]]:
        """Log likelihoods of (context ids, continuation ids), as lm-eval's HFLM computes them.

        Nothing is cut off: what exceeds the model's positions is refused. Continuations of one context that
        differ in their last token alone, such as the letters of a multiple choice, share one row.
        """
        from surgery.model.decoding import continuation_scores

        for context, continuation in requests:
            if not context or not continuation:
                raise DataError("a context or a continuation has no tokens", "give each of them one or more")
        inputs, asked = same_inputs([(*context, *continuation[:-1]) for context, continuation in requests])
        self._live.check_positions(max(map(len, inputs), default=0))
        self._live.check_tokens([(*context, *continuation) for context, continuation in requests])
        tasks = []
        for ids, wanted in zip(inputs, asked, strict=True):
            scored = max(len(requests[index][1]) for index in wanted)
            tasks.append(Task(wanted, len(ids), self._rows.footprint.forward(len(ids), scored)))

        def score(batch: Sequence[Slot]) -> list[tuple[Slot, list[Scored]]]:
            continuations = [[requests[index][1] for index in asked[slot.task]] for slot in batch]
            rows = [inputs[slot.task] for slot in batch]
            found = continuation_scores(self._live, rows, continuations, self._live.layout)
            results = [[Scored(total, greedy) for total, greedy in scores] for scores in found]
            return list(zip(batch, results, strict=True))

        return self._score(tasks, score, Tally(self._names, pair_tokens(requests), control, done), control)

    def answer_losses(
        self,
        examples: Sequence[Example],
        *,
        control: Control = SILENT,
        done: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> dict[str, Float64[ndarray, " example"]]:
        """Mean cross-entropy over the answer tokens of each example, in nats; see `sensitivity.answer_losses`."""
        found = self._whole(examples, self._each(measured_losses), control, done)
        return {name: np.array(losses, dtype=np.float64) for name, losses in found.items()}

    def classify(
        self,
        examples: Sequence[Example],
        *,
        control: Control = SILENT,
        done: Callable[[int, Mapping[str, Classified]], None] | None = None,
    ) -> dict[str, list[Classified]]:
        """What a classifier says of each example: its loss as in `answer_losses`, and the likeliest labels."""
        return self._whole(examples, self._each(classified), control, done)

    def divergences(
        self,
        examples: Sequence[Example],
        references: Sequence[str],
        *,
        control: Control = SILENT,
        done: Callable[[int, Mapping[str, Divergence]], None] | None = None,
    ) -> dict[str, list[Divergence]]:
        """Cross-entropy of every variant and KL(reference ‖ variant) over the labels of each example, per label.

        references: variants of this engine that the others are measured from, by name.

        Logits of a reference are kept until all variants have read the example. Raises `DataError` for a reference
        that is no variant here.
        """
        for name in references:
            if name not in self._names:
                raise DataError(f"{name!r} is no variant of this engine", f"use one of {', '.join(self._names)}")
        first = [self._names.index(name) for name in references]
        reading = Divergences(self._live.model, first, len(self._names))
        return self._whole(examples, reading, control, done, first)

    def _whole(
        self,
        examples: Sequence[Example],
        read: Callable[[Batch, Sequence[Slot]], Sequence[tuple[Slot, T]]],
        control: Control,
        done: Callable[[int, Mapping[str, T]], None] | None,
        first: Sequence[int] = (),
    ) -> dict[str, list[T]]:
        """What `read` finds in a pass of the model over each example, row by row.

        `first`: variants whose logits are kept while the others follow, by number.
        """
        self._live.check_positions(max((example.span for example in examples), default=0))
        self._live.check_tokens([example.tokens for example in examples])
        _, asked = same_inputs([(e.prompt_ids, e.answer_ids, e.segments) for e in examples])
        tasks = []
        for wanted in asked:
            one = examples[wanted[0]]
            scored = (len(one.answer_ids) + 1) * (1 + len(first))
            tasks.append(Task(wanted, one.length, self._rows.footprint.forward(one.length, scored), one.lengths))

        def score(batch: Sequence[Slot]) -> list[tuple[Slot, list[T]]]:
            chosen = [examples[asked[slot.task][0]] for slot in batch]
            rows = collate(chosen, self._live.base.padding, layout=self._live.layout)
            return [(slot, [each] * len(asked[slot.task])) for slot, each in read(rows, batch)]

        tally = Tally(self._names, [example.length for example in examples], control, done)
        return self._score(tasks, score, tally, control, first)

    def _each(self, read: Callable[[Any, Batch], Sequence[T]]) -> Callable[..., list[tuple[Slot, T]]]:
        """`read` of the live model, whose results belong to the rows of a batch in their order."""
        return lambda batch, slots: list(zip(slots, read(self._live.model, batch), strict=True))

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        stop: Stop | None = None,
        control: Control = SILENT,
        done: Callable[[int, Mapping[str, list[int]]], None] | None = None,
    ) -> dict[str, list[list[int]]]:
        """Greedy continuations of token ids, whatever else a checkpoint's generation settings say.

        prompts: token ids.
        max_new_tokens: most tokens of each answer, or one number for all.
        stop: called with the index of the prompt and its tokens so far; true ends the answer after these.

        An answer also ends before the first end of sequence that tokenizer or generation settings name, and
        where the model's positions end.
        """
        limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
        if len(limits) != len(prompts) or any(limit < 1 for limit in limits):
            raise DataError(
                f"{len(limits)} limits from {min(limits, default=0)} tokens were given for {len(prompts)} prompts",
                "allow every prompt 1 token or more",
            )
        requests = [Continuation(tuple(p), (), limit) for p, limit in zip(prompts, limits, strict=True)]
        tally = Tally(self._names, text_tokens(prompts, limits), control, done and only_tokens(done))
        answered = self._decode(requests, stop, tally, control)
        return {name: [answer.tokens for answer in answers] for name, answers in answered.items()}

    def answer(
        self,
        examples: Sequence[Example],
        *,
        max_new_tokens: int,
        stop: Stop | None = None,
        control: Control = SILENT,
        done: Callable[[int, Mapping[str, Answered]], None] | None = None,
    ) -> dict[str, list[Answered]]:
        """`answer_losses` and `generate` for examples, from one pass over each prompt.

        An answer ends before the end of turn of any of the examples, too, and where `stop` says so, as in `generate`.
        """
        ends = frozenset(example.end for example in examples if example.end is not None)
        requests = [Continuation(e.prompt_ids, e.answer_ids, max_new_tokens, e.opening) for e in examples]
        tally = Tally(self._names, answer_tokens(examples), control, done)
        return self._decode(requests, stop, tally, control, ends)

    def _decode(
        self,
        requests: Sequence[Continuation],
        stop: Stop | None,
        tally: Tally[Answered],
        control: Control,
        ends: frozenset[int] = frozenset(),
    ) -> dict[str, list[Answered]]:
        self._decoded = True
        decoding = Decoding(self._rows, requests, tally, stop, control, ends)
        self._runner.run(decoding.queue, decoding.run, control, self._live.way.decoding, in_one_pass=False)
        return tally.by_variant

    def _score(
        self,
        tasks: Sequence[Task],
        score: Callable[[Sequence[Slot]], Sequence[tuple[Slot, Sequence[T]]]],
        tally: Tally[T],
        control: Control,
        first: Sequence[int] = (),
    ) -> dict[str, list[T]]:
        """Results of tasks of one forward pass each; `score` gives one for every request that a slot answers.

        It may give those of a slot later, with those of another batch. `first`: variants that are asked before the
        others, by number.
        """
        order = [*first, *(variant for variant in range(len(self._names)) if variant not in first)]
        queue = Queue(tasks, order)

        def run(batch: Sequence[Slot]) -> None:
            self._rows.choose([slot.variant for slot in batch])
            found = score(batch)
            for slot in batch:
                queue.finish(slot)
            for slot, results in found:
                for request, result in zip(tasks[slot.task].wanted, results, strict=True):
                    tally.put(request, slot.variant, result)
            tally.tell()

        self._runner.run(queue, run, control, self._live.layout, in_one_pass=True)
        return tally.by_variant
