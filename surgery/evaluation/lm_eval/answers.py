"""What the engine is asked of a task's requests, and what became of it: responses, and prompts that were cut."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from surgery.evaluation.lm_eval.requests import Prompt, Texts
from surgery.evaluation.lm_eval.tasks import KINDS, LoadedTask
from surgery.progress import SILENT, Control

Response = str | tuple[float, bool] | float


class Score(Protocol):
    """A log likelihood in nats, and whether every token of it is the model's best."""

    @property
    def log_likelihood(self) -> float: ...
    @property
    def greedy(self) -> bool: ...


class Engine(Protocol):
    """What answers for all variants: token ids in, results by variant name out, in the order of the requests.

    `notes` say how it read them.
    """

    @property
    def notes(self) -> tuple[str, ...]: ...

    def log_likelihoods(
        self,
        requests: Sequence[tuple[Sequence[int], Sequence[int]]],
        *,
        control: Control = SILENT,
    ) -> Mapping[str, Sequence[Score]]: ...

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int | Sequence[int],
        stop: Callable[[int, Sequence[int]], bool] | None = None,
        control: Control = SILENT,
    ) -> Mapping[str, Sequence[Sequence[int]]]: ...


@dataclass(frozen=True)
class Cut:
    """A prompt that is longer than the model: tokens lost at its beginning, and the text that was asked instead."""

    lost: int
    asked: str


def answers_to(
    asked: Sequence[Any], texts: Texts, engine: Engine, control: Control
) -> tuple[dict[str, list[Response]], dict[int, Prompt]]:
    """The responses of every variant, and the prompts of what was asked by the number of the request."""
    found: dict[str, dict[int, Response]] = {}
    prompts: dict[int, Prompt] = {}
    for kind in KINDS:
        places = [place for place, request in enumerate(asked) if request.request_type == kind]
        if places:
            said, responses = _answer(kind, [asked[place].args for place in places], texts, engine, control)
            prompts |= dict(zip(places, said, strict=False))
            for variant, own in responses.items():
                found.setdefault(variant, {}).update(zip(places, own, strict=True))
    return {variant: [own[place] for place in range(len(asked))] for variant, own in found.items()}, prompts


def _answer(
    kind: str, requests: Sequence[tuple[Any, ...]], texts: Texts, engine: Engine, control: Control
) -> tuple[list[Prompt], dict[str, list[Response]]]:
    """The prompts of requests of one kind, none for whole texts, and the responses of every variant."""
    if kind == "loglikelihood":
        pairs = [texts.pair(context, continuation) for context, continuation in requests]
        scored = engine.log_likelihoods([(prompt.ids, after) for prompt, after in pairs], control=control)
        found: dict[str, list[Response]] = {
            name: [(s.log_likelihood, s.greedy) for s in scores] for name, scores in scored.items()
        }
        return [prompt for prompt, _ in pairs], found
    if kind == "loglikelihood_rolling":
        windows = [texts.windows(text) for (text,) in requests]
        parts = [(prompt.ids, after) for window in windows for prompt, after in window]
        scored = engine.log_likelihoods(parts, control=control)
        return [], {name: _sums(scores, [len(part) for part in windows]) for name, scores in scored.items()}
    endings = [texts.ending(options) for _, options in requests]
    prompts = [texts.prompt(context, ending) for (context, _), ending in zip(requests, endings, strict=True)]
    generated = engine.generate(
        [prompt.ids for prompt in prompts],
        max_new_tokens=[ending.new_tokens for ending in endings],
        stop=texts.stops(endings),
        control=control,
    )
    return prompts, {
        name: [texts.answer(ids, ending) for ids, ending in zip(rows, endings, strict=True)]
        for name, rows in generated.items()
    }


def _sums(scores: Sequence[Score], lengths: Sequence[int]) -> list[Response]:
    ends = np.cumsum(lengths)
    return [
        float(sum(score.log_likelihood for score in scores[end - length : end]))
        for end, length in zip(ends, lengths, strict=True)
    ]


def cut_prompts(loaded: LoadedTask, texts: Texts, prompts: Mapping[int, Prompt]) -> dict[int, Cut]:
    """By the number of the document: the most that one of its prompts lost, and what the first one said then."""
    cuts = {}
    for number, places in enumerate(loaded.places):
        own = [prompts[place] for place in places if place in prompts]
        if lost := max((prompt.lost for prompt in own), default=0):
            asked = texts.said(own[0]) if own[0].lost else loaded.documents[number].prompt
            cuts[number] = Cut(lost, asked)
    return cuts


def cut_note(cuts: Mapping[int, Cut], documents: int, length: int) -> tuple[str, ...]:
    if not cuts:
        return ()
    lost = sorted(cut.lost for cut in cuts.values())
    span = f"{lost[0]:,}" if lost[0] == lost[-1] else f"{lost[0]:,} to {lost[-1]:,}"
    return (
        f"{len(cuts)} of {documents} prompts are longer than the {length:,} tokens that the model reads: as lm-eval does, "
        f"their beginnings were cut, by {span} tokens; the answers tell what was asked",
    )
