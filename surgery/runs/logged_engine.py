"""The engine with a log beneath it: answered once, never asked again."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import Example
from surgery.errors import DataError
from surgery.files import digest
from surgery.model import (
    Answered,
    Classified,
    Divergence,
    Scored,
    Stop,
    Variant,
    VariantEngine,
    answer_tokens,
    pair_tokens,
    text_tokens,
)
from surgery.progress import SILENT, Control
from surgery.runs.answer_log import AnswerLog, RequestKey, Response
from surgery.sensitivity import sigma_identity

if TYPE_CHECKING:
    from surgery.model import LiveModel

Done = Callable[[int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class _Call(Generic[Response]):
    """A method of the engine as the log has it.

    digests: of each request.
    costs: tokens that each request is expected to take for one variant.
    ask: runs the requests of these indices through an engine.
    keep, read: a response as a value of JSON, and back.
    references: variants that have to run beside those that are asked.
    """

    digests: Sequence[str]
    costs: Sequence[int]
    ask: Callable[[VariantEngine, Sequence[int], Control, Done], object]
    keep: Callable[[Response], Any]
    read: Callable[[Any], Response]
    references: tuple[str, ...] = ()


class LoggedEngine:
    """`VariantEngine` behind a log: the model is asked for nothing that the log holds.

    Calls have to come in the same order with the same requests whenever the same log is used; a request that
    is another than the one logged under its number is asked anew. Each variant is asked for what it lacks;
    those that lack the same share their batches, of at most `batch_size` requests. Answers known from before
    count as done. `beside` are further variants that divergences may be measured from: they run where one is asked
    for and answer nothing themselves.
    """

    def __init__(
        self,
        live: "LiveModel",
        variants: Mapping[str, Variant | None],
        log: AnswerLog,
        *,
        batch_size: int | None = None,
        beside: Mapping[str, Variant | None] = MappingProxyType({}),
    ) -> None:
        self._live, self._variants, self._log, self._batch_size = live, dict(variants), log, batch_size
        self._all = {**beside, **variants}
        self._calls = 0
        self._decoded = False

    @property
    def notes(self) -> tuple[str, ...]:
        """See `VariantEngine.notes`; the same where all answers were in the log."""
        return self._live.notes if self._decoded else self._live.scoring_notes

    @property
    def references(self) -> tuple[str, ...]:
        """The variants that divergences may be measured from."""
        return tuple(self._all)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a classifier by number."""
        return self._live.base.labels

    def log_likelihoods(
        self, requests: Sequence[tuple[Sequence[int], Sequence[int]]], *, control: Control = SILENT
    ) -> dict[str, list[Scored]]:
        """See `VariantEngine.log_likelihoods`."""

        def ask(engine: VariantEngine, picked: Sequence[int], control: Control, done: Done) -> object:
            return engine.log_likelihoods([requests[i] for i in picked], control=control, done=done)

        digests = [_digest("likelihood", context, continuation) for context, continuation in requests]
        return self._answers(
            _Call(digests, pair_tokens(requests), ask, astuple, lambda kept: Scored(*kept)), control
        )

    def answer_losses(
        self, examples: Sequence[Example], *, control: Control = SILENT
    ) -> dict[str, Float64[ndarray, " example"]]:
        """See `VariantEngine.answer_losses`."""

        def ask(engine: VariantEngine, picked: Sequence[int], control: Control, done: Done) -> object:
            return engine.answer_losses([examples[i] for i in picked], control=control, done=done)

        digests = [_digest("loss", example.prompt_ids, example.answer_ids) for example in examples]
        costs = pair_tokens([(example.prompt_ids, example.answer_ids) for example in examples])
        answers = self._answers(_Call(digests, costs, ask, float, float), control)
        return {name: np.array(losses, dtype=np.float64) for name, losses in answers.items()}

    def classify(self, examples: Sequence[Example], *, control: Control = SILENT) -> dict[str, list[Classified]]:
        """See `VariantEngine.classify`."""

        def ask(engine: VariantEngine, picked: Sequence[int], control: Control, done: Done) -> object:
            return engine.classify([examples[i] for i in picked], control=control, done=done)

        digests = [_digest("label", e.prompt_ids, e.answer_ids, e.segments) for e in examples]
        costs = [example.length for example in examples]
        call = _Call(digests, costs, ask, astuple, lambda kept: Classified(kept[0], tuple(kept[1])))
        return self._answers(call, control)

    def divergences(
        self, examples: Sequence[Example], references: Sequence[str], *, control: Control = SILENT
    ) -> dict[str, list[Divergence]]:
        """See `VariantEngine.divergences`."""

        def ask(engine: VariantEngine, picked: Sequence[int], control: Control, done: Done) -> object:
            return engine.divergences([examples[i] for i in picked], references, control=control, done=done)

        # runs share what they know of a variant: what it was measured from is part of what was asked
        kind = " from ".join(["divergence", *(f"{name} {sigma_identity(self._all[name])}" for name in references)])
        digests = [_digest(kind, e.prompt_ids, e.answer_ids, e.segments) for e in examples]
        call = _Call(
            digests,
            [example.length for example in examples],
            ask,
            astuple,
            lambda kept: Divergence(kept[0], tuple(kept[1])),
            tuple(references),
        )
        return self._answers(call, control)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        stop: Stop | None = None,
        control: Control = SILENT,
    ) -> dict[str, list[list[int]]]:
        """See `VariantEngine.generate`."""
        limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
        if len(limits) != len(prompts):
            raise DataError(f"{len(limits)} limits were given for {len(prompts)} prompts", "give one for each")

        def ask(engine: VariantEngine, picked: Sequence[int], control: Control, done: Done) -> object:
            return engine.generate(
                [prompts[i] for i in picked],
                max_new_tokens=[limits[i] for i in picked],
                stop=_picked(stop, picked),
                control=control,
                done=done,
            )

        self._decoded = True
        digests = [_digest("text", prompt, [limit]) for prompt, limit in zip(prompts, limits, strict=True)]
        return self._answers(_Call[list[int]](digests, text_tokens(prompts, limits), ask, list, list), control)

    def answer(
        self,
        examples: Sequence[Example],
        *,
        max_new_tokens: int,
        stop: Stop | None = None,
        control: Control = SILENT,
    ) -> dict[str, list[Answered]]:
        """See `VariantEngine.answer`."""

        def ask(engine: VariantEngine, picked: Sequence[int], control: Control, done: Done) -> object:
            chosen = [examples[i] for i in picked]
            return engine.answer(
                chosen, max_new_tokens=max_new_tokens, stop=_picked(stop, picked), control=control, done=done
            )

        self._decoded = True
        digests = [_digest("answer", e.prompt_ids, e.answer_ids, [max_new_tokens]) for e in examples]
        return self._answers(
            _Call(digests, answer_tokens(examples), ask, astuple, lambda kept: Answered(*kept)), control
        )

    def _answers(self, call: _Call[Response], control: Control) -> dict[str, list[Response]]:
        """What the log holds of a call, once the model has been asked for what it lacks."""
        keys = [RequestKey(self._calls, number, digest) for number, digest in enumerate(call.digests)]
        self._calls += 1
        groups = self._lacking(keys)
        total = len(keys) * len(self._variants)
        finished = total - sum(len(lacking) * len(names) for lacking, names in groups.items())
        self._log.expect(total - finished)
        control.progress(finished, total)
        all_tokens = sum(call.costs) * len(self._variants)
        left = {lacking: sum(call.costs[i] for i in lacking) * len(names) for lacking, names in groups.items()}
        tokens = all_tokens - sum(left.values())
        control.tokens(tokens, all_tokens)
        for lacking, names in groups.items():
            share = replace(control.part(finished, total), tokens=_following(control, tokens, all_tokens))
            self._ask(call, [keys[i] for i in lacking], names, share)
            finished += len(lacking) * len(names)
            tokens += left[lacking]
        return {name: [call.read(self._log.known[key][name]) for key in keys] for name in self._variants}

    def _lacking(self, keys: Sequence[RequestKey]) -> dict[tuple[int, ...], list[str]]:
        """Names of the variants that lack the same requests, by the indices of these."""
        groups: dict[tuple[int, ...], list[str]] = {}
        for name in self._variants:
            lacking = tuple(i for i, key in enumerate(keys) if name not in self._log.known.get(key, {}))
            if lacking:
                groups.setdefault(lacking, []).append(name)
        return groups

    def _ask(
        self, call: _Call[Response], keys: Sequence[RequestKey], names: Sequence[str], control: Control
    ) -> None:
        """Ask the model for requests of a call, and log each as it is answered."""

        def done(index: int, responses: Mapping[str, Response]) -> None:
            self._log.add(keys[index], {name: call.keep(responses[name]) for name in names})

        asked = {name: self._all[name] for name in dict.fromkeys((*names, *call.references))}
        rows = None if self._batch_size is None else self._batch_size * len(asked)
        engine = VariantEngine(self._live, asked, rows=rows)
        call.ask(engine, [key.number for key in keys], _share(control, len(names), len(asked)), done)


def _share(control: Control, names: int, asked: int) -> Control:
    """The control of work on `asked` variants, of which `names` count: those beside them answer nothing."""
    if names == asked:
        return control
    return replace(
        control,
        progress=lambda done, total: control.progress(done * names // asked, total * names // asked),
        tokens=lambda done, total: control.tokens(done * names // asked, total * names // asked),
    )


def _following(control: Control, before: int, total: int) -> Callable[[int, int], None]:
    """Tells the tokens of a part that follows others."""
    return lambda done, _: control.tokens(before + done, total)


def _picked(stop: Stop | None, picked: Sequence[int]) -> Stop | None:
    """The stop of some of the requests, which it is asked about by their numbers among all."""
    return None if stop is None else lambda index, tokens: stop(picked[index], tokens)


def _digest(kind: str, *parts: Iterable[int]) -> str:
    """Digest of one request: what is asked for, and the numbers it is asked with."""
    return digest([kind, *(" ".join(map(str, part)) for part in parts)])[:16]
