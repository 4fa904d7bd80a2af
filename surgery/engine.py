"""Several variants of an adapter at once: likelihoods, answer losses and greedy decoding, each row with its own σ.

A batch carries all variants of a request, so that what a forward pass costs whatever it computes, the reading
of the weights above all, is paid once for all of them. Results per variant equal separate runs: identical
tokens in float32, numbers up to rounding elsewhere. Variants differ in every edited layer and so in all keys
and values above the first, so each row has its own cache, also of a prompt that all of them share.

Layers that cannot tell rows apart, such as the stacked weights of experts, get one variant after the other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.batching import Place, Queue, Tally, Task, opening_of, same_inputs
from surgery.calibration import Example, collate
from surgery.errors import DataError, RowsMixedError
from surgery.memory import footprint, free_bytes, is_out_of_memory, release
from surgery.progress import SILENT, Control
from surgery.sensitivity import answer_losses, padding_id

if TYPE_CHECKING:
    from torch import Tensor

    from surgery.live import LiveModel

Variant = Mapping[str, Float64[ndarray, "rank"]]
Stop = Callable[[int, Sequence[int]], bool]

# of what is free, for the rows of a batch; the rest is for what an estimate does not see
_SHARE = 0.6
# tokens of one forward pass, above which each costs as much, on a CPU a tenth more, and a cancel waits longer
_TOKENS_AT_ONCE = {"cpu": 512}
_TOKENS = 32768
# rows decoded together, likewise
_ROWS_AT_ONCE = {"cpu": 128}
_ROWS = 2048
# tokens in common from which a pass of their own is worth it
_WORTH = 8


@dataclass(frozen=True)
class Scored:
    """A continuation given its context: log likelihood in nats, and whether greedy decoding would write it."""

    log_likelihood: float
    greedy: bool


@dataclass(frozen=True)
class Answered:
    """One example: mean cross-entropy of its own answer in nats per token, and the tokens of the greedy one."""

    loss: float
    tokens: list[int]


class VariantEngine:
    """Runs requests through the variants of one live model; `None` is the unedited adapter.

    A batch has at most `rows` rows (variants × requests), fewer where memory asks for it; without `rows` memory
    alone decides. A batch that does not fit all the same is halved, and the work goes on where it stopped.
    Variants are not compared: one that equals another is run all the same. The live model is the engine's
    during a call, and holds the adapter's own σ after it.

    In every call, requests are taken longest first and answered in the caller's order; equal ones are computed
    once. `done(index, results by variant)` follows each request that all variants have finished, and then
    `control.progress`, which counts requests × variants. Raises `Cancelled` when `control` says so, and `DataError` for a request that is empty, exceeds the model's positions or does not fit into memory.
    """

    def __init__(
        self, live: "LiveModel", variants: Mapping[str, Variant | None], *, rows: int | None = None
    ) -> None:
        if not variants:
            raise DataError("no variant was given", "name one or more")
        if rows is not None and rows < 1:
            raise DataError(f"a batch of {rows} rows was asked for", "use 1 or more")
        self._live = live
        self._names = tuple(variants)
        self._sigma = _on_device(live, stacked_sigma(live, variants))
        kind = live.device.type
        self._most_rows = min(rows or _ROWS, _ROWS_AT_ONCE.get(kind, _ROWS))
        self._most_tokens = _TOKENS_AT_ONCE.get(kind, _TOKENS)
        self._footprint = footprint(live.model)
        self._places = getattr(live.model.config.get_text_config(), "max_position_embeddings", None)
        # learnt while running: the bytes that are known not to fit, and whether layers mix rows
        self._learnt: int | None = None
        self._apart = False

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
        from surgery.prompts import continuation_scores

        for context, continuation in requests:
            if not context or not continuation:
                raise DataError("a context or a continuation has no tokens", "give each of them one or more")
        inputs, asked = same_inputs([(*context, *continuation[:-1]) for context, continuation in requests])
        self._check_positions(inputs)
        tasks = []
        for ids, wanted in zip(inputs, asked, strict=True):
            scored = max(len(requests[index][1]) for index in wanted)
            tasks.append(Task(wanted, len(ids), self._footprint.forward(len(ids), scored)))
        tally: Tally[Scored] = Tally(self._names, len(requests), control, done)

        def run(batch: Sequence[Place], queue: "Queue") -> None:
            self._choose([variant for _, variant in batch])
            found = continuation_scores(
                self._live,
                [inputs[task] for task, _ in batch],
                [[requests[index][1] for index in asked[task]] for task, _ in batch],
            )
            for place, scores in zip(batch, found, strict=True):
                queue.finish(place)
                for index, (total, greedy) in zip(asked[place[0]], scores, strict=True):
                    tally.put(index, place[1], Scored(total, greedy))

        self._serve(tasks, run, control, in_one_pass=True)
        return tally.by_variant

    def answer_losses(
        self,
        examples: Sequence[Example],
        *,
        control: Control = SILENT,
        done: Callable[[int, Mapping[str, float]], None] | None = None,
    ) -> dict[str, Float64[ndarray, "example"]]:
        """Mean cross-entropy over the answer tokens of each example, in nats; see `sensitivity.answer_losses`."""
        import torch

        inputs, asked = same_inputs([(example.prompt_ids, example.answer_ids) for example in examples])
        self._check_positions([(*prompt, *answer) for prompt, answer in inputs])
        tasks = []
        for (prompt, answer), wanted in zip(inputs, asked, strict=True):
            length = len(prompt) + len(answer)
            tasks.append(Task(wanted, length, self._footprint.forward(length, len(answer) + 1)))
        tally: Tally[float] = Tally(self._names, len(examples), control, done)
        padding = padding_id(self._live.base.tokenizer)

        def run(batch: Sequence[Place], queue: "Queue") -> None:
            self._choose([variant for _, variant in batch])
            with torch.inference_mode():
                rows = collate([examples[asked[task][0]] for task, _ in batch], padding)
                losses = answer_losses(self._live.model, rows).double().tolist()
            for place, loss in zip(batch, losses, strict=True):
                queue.finish(place)
                for index in asked[place[0]]:
                    tally.put(index, place[1], loss)

        self._serve(tasks, run, control, in_one_pass=True)
        return {name: np.array(losses, dtype=np.float64) for name, losses in tally.by_variant.items()}

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

        An answer ends before the first end of sequence that tokenizer or generation settings name, after the token
        with which `stop(index of the prompt, its tokens so far)` says so, at its own `max_new_tokens`,
        or where the model's positions end.
        """
        limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
        if len(limits) != len(prompts) or any(limit < 1 for limit in limits):
            raise DataError(
                f"{len(limits)} limits from {min(limits, default=0)} tokens were given for {len(prompts)} prompts",
                "allow every prompt 1 token or more",
            )
        heard = None if done is None else _only_tokens(done)
        rows = [(tuple(prompt), ()) for prompt in prompts]
        answered = self._decode(rows, limits, stop, control, heard)
        return {name: [answer.tokens for answer in answers] for name, answers in answered.items()}

    def answer(
        self,
        examples: Sequence[Example],
        *,
        max_new_tokens: int,
        control: Control = SILENT,
        done: Callable[[int, Mapping[str, Answered]], None] | None = None,
    ) -> dict[str, list[Answered]]:
        """`answer_losses` and `generate` for examples, from one pass over each prompt."""
        rows = [(example.prompt_ids, example.answer_ids) for example in examples]
        return self._decode(rows, [max_new_tokens] * len(rows), None, control, done)

    def _decode(
        self,
        requests: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
        limits: Sequence[int],
        stop: Stop | None,
        control: Control,
        done: Callable[[int, Mapping[str, Answered]], None] | None,
    ) -> dict[str, list[Answered]]:
        """Continuations of (prompt, answer to score); an empty answer is not scored and has the loss NaN."""
        from surgery.prompts import end_ids

        inputs, asked = same_inputs(requests)
        self._check_positions([(*prompt, *answer) for prompt, answer in inputs])
        if any(not prompt for prompt, _ in inputs):
            raise DataError("a prompt has no tokens", "give it one or more")
        # the last token of an answer is never read back, so it needs no position
        limits = [min(n, self._room(len(prompt))) for n, (prompt, _) in zip(limits, requests, strict=True)]
        tasks = []
        for (prompt, answer), wanted in zip(inputs, asked, strict=True):
            longest = len(prompt) + max(len(answer), *(limits[index] for index in wanted))
            tasks.append(Task(wanted, len(prompt), longest * self._footprint.cached + self._footprint.logits))
        tally: Tally[Answered] = Tally(self._names, len(requests), control, done)
        ends = end_ids(self._live)
        begun = _Begun(opening_of([prompt for prompt, _ in inputs]))
        # these outlive a batch, so that a row whose batch is halved goes on from what it has said
        said: dict[Place, list[int]] = {}
        losses: dict[Place, float] = {}
        open_requests: dict[Place, list[int]] = {}

        def heard(place: Place, token: int, queue: "Queue") -> bool:
            """Take the next token of a row; whether any request that the row answers needs more."""
            tokens, waiting = said[place], open_requests[place]
            ended = token in ends
            if not ended:
                tokens.append(token)
            over = [
                index
                for index in waiting
                if ended or len(tokens) >= limits[index] or (stop is not None and stop(index, tokens))
            ]
            open_requests[place] = [index for index in waiting if index not in over]
            if not open_requests[place]:
                queue.finish(place)
                del said[place]
            for index in over:
                tally.put(index, place[1], Answered(losses.get(place, float("nan")), list(tokens)))
            return bool(open_requests[place])

        def run(batch: Sequence[Place], queue: "Queue") -> None:
            for place in batch:
                said.setdefault(place, [])
                open_requests.setdefault(place, list(asked[place[0]]))
            places, rows = self._read(batch, inputs, said, losses, begun, control)
            while True:
                chosen = rows.chosen
                staying = [row for row, place in enumerate(places) if heard(place, chosen[row], queue)]
                if not staying:
                    return
                control.heed()
                if len(staying) < len(places):
                    places = [places[row] for row in staying]
                    self._choose([variant for _, variant in places])
                    rows.keep(staying)
                rows.advance([chosen[row] for row in staying])

        self._serve(tasks, run, control, in_one_pass=False)
        return tally.by_variant

    def _read(
        self,
        batch: Sequence[Place],
        inputs: Sequence[tuple[Sequence[int], Sequence[int]]],
        said: Mapping[Place, list[int]],
        losses: dict[Place, float],
        begun: "_Begun",
        control: Control,
    ) -> tuple[list[Place], Any]:
        """Read the prompts of a batch, in parts that one forward pass can take, and score their answers.

        Where the parts cannot be put together again, the first one is all that is read.
        """
        from surgery.prompts import Prompts

        opening = self._opening(begun)
        texts = [[*inputs[place[0]][0], *said[place]] for place in batch]
        width = max(len(text) for text in texts)
        size = self._rows_at_once(width - (opening.length if opening else 0))
        rows: list[Prompts] = []
        for begin in range(0, len(batch), size):
            if begin:
                control.heed()
                if not rows[0].joinable:
                    batch = batch[:begin]
                    break
            part = batch[begin : begin + size]
            self._choose([variant for _, variant in part])
            own = [variant for _, variant in part]
            rows.append(
                Prompts(self._live, texts[begin : begin + size], width=width, opening=opening, variants=own)
            )
            answers = [inputs[task][1] for task, _ in part]
            # a row that has said something is past the place where its answer begins, and was scored before
            fresh = [row for row, place in enumerate(part) if answers[row] and place not in losses]
            if fresh:
                found = rows[-1].answer_losses([answer or (0,) for answer in answers])
                losses |= {part[row]: found[row] for row in fresh}
        if len(rows) > 1:
            self._choose([variant for _, variant in batch])
            rows[0].join(rows[1:])
        return list(batch), rows[0]

    def _opening(self, begun: "_Begun") -> Any:
        """What all prompts of a call begin with, read for every variant before the first of them; None where it is
        short or cannot be shared."""
        from surgery.prompts import Prompts

        count, length = len(self._names), len(begun.tokens)
        if begun.tried or self._apart or length < _WORTH:
            return None if self._apart else begun.opening
        begun.tried = True  # first: what does not fit into memory is not tried again
        if count * length * self._footprint.cached > _SHARE / 4 * free_bytes(self._live.device):
            return None
        rows: list[Prompts] = []
        size = self._rows_at_once(length)
        try:
            for begin in range(0, count, size):
                part = range(begin, min(begin + size, count))
                self._choose(part)
                rows.append(Prompts(self._live, [begun.tokens] * len(part)))
        except RowsMixedError:
            if count == 1:
                raise
            self._apart = True
            return None
        if rows[0].opening() is not None:
            rows[0].join(rows[1:])
            begun.opening = rows[0].opening()
        return begun.opening

    def _serve(
        self,
        tasks: Sequence[Task],
        run: Callable[[Sequence[Place], "Queue"], None],
        control: Control,
        *,
        in_one_pass: bool,
    ) -> None:
        """Run all tasks for all variants, batch by batch; `run` finishes places of its batch as it goes.

        `in_one_pass`: whether a batch is a single forward pass, so that its tokens count too.
        """
        queue = Queue(tasks, len(self._names))
        free = int(_SHARE * free_bytes(self._live.device))
        budget = free if self._learnt is None else min(free, self._learnt)
        try:
            while queue.missing:
                control.heed()
                batch, heaviest = self._packed(queue, tasks, budget, in_one_pass)
                mixed = short = False
                try:
                    run(batch, queue)
                except RowsMixedError:
                    if len({variant for _, variant in batch}) == 1:
                        raise
                    mixed = True
                except RuntimeError as error:
                    if not is_out_of_memory(error):
                        raise
                    short = True
                # outside of the handlers, where nothing holds the tensors of the failed step any more
                if mixed:
                    self._apart = True
                if short:
                    release()
                    if len(batch) == 1:
                        raise DataError(
                            f"one request of {tasks[batch[0][0]].tokens} tokens does not fit into memory",
                            "shorten it, or use a smaller dtype",
                        )
                    budget = self._learnt = heaviest * (len(batch) // 2)
        finally:
            self._live.set_sigma(None)

    def _packed(
        self, queue: "Queue", tasks: Sequence[Task], budget: int, in_one_pass: bool
    ) -> tuple[list[Place], int]:
        """The next batch and the bytes of its heaviest row."""
        batch: list[Place] = []
        heaviest = widest = 0
        for task, missing in queue.missing.items():
            variants = missing[:1] if self._apart else missing
            if self._apart and batch and variants != [batch[0][1]]:
                break
            heaviest, widest = max(heaviest, tasks[task].bytes), max(widest, tasks[task].tokens)
            room = min(self._most_rows, budget // max(1, heaviest))
            if in_one_pass:
                room = min(room, self._rows_at_once(widest))
            if batch and len(batch) + len(variants) > room:
                break
            batch += [(task, variant) for variant in variants[: max(1, room)]]
        return batch, max(tasks[task].bytes for task, _ in batch)

    def _rows_at_once(self, width: int) -> int:
        """Rows of so many tokens for one forward pass: whole requests, or equal parts of the variants of one."""
        variants = 1 if self._apart else len(self._names)
        rows = max(1, self._most_tokens // width)
        if rows >= variants:
            return rows // variants * variants
        return -(-variants // -(-variants // rows))

    def _choose(self, variants: Sequence[int]) -> None:
        """Put the σ of these variants, one a row, into the live model; without rows where all are the same."""
        if len(set(variants)) == 1:
            self._live.set_sigma({name: sigma[variants[0]] for name, sigma in self._sigma.items()})
        else:
            import torch

            index = torch.tensor(variants, device=self._live.device)
            self._live.set_sigma({name: sigma[index] for name, sigma in self._sigma.items()})

    def _room(self, tokens: int) -> int:
        return self._places - tokens + 1 if self._places else 1 << 30

    def _check_positions(self, rows: Sequence[Sequence[int]]) -> None:
        longest = max((len(row) for row in rows), default=0)
        if self._places and longest > self._places:
            raise DataError(f"a request is {longest} tokens, more than {self._places}", "shorten it")


@dataclass
class _Begun:
    """The tokens that all prompts of a call begin with, and what was read of them."""

    tokens: list[int]
    tried: bool = False
    opening: Any = None


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


def _only_tokens(
    done: Callable[[int, Mapping[str, list[int]]], None],
) -> Callable[[int, Mapping[str, Answered]], None]:
    return lambda index, found: done(index, {name: answer.tokens for name, answer in found.items()})
