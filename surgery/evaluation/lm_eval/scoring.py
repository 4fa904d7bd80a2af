"""Variants scored on a loaded task: the engine answers, lm-eval turns answers into metrics.

For the same model, task and slice the scores are those of `lm_eval.simple_evaluate` with its HF model,
example by example.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import TaskDocument
from surgery.errors import DataError
from surgery.evaluation.lm_eval.code_judge import Judge, about, judging
from surgery.evaluation.lm_eval.definitions import kept_random_state, quiet, refusing
from surgery.evaluation.lm_eval.requests import Texts, steering
from surgery.evaluation.lm_eval.tasks import KINDS, LoadedTask, TaskPlan, by_document
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from surgery.model import LoadedBase


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


_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)
Value = Any  # a number for most metrics; what an aggregation of lm-eval takes for others
Response = str | tuple[float, bool] | float


@dataclass(frozen=True)
class TaskScores:
    """What variants scored on one slice: `values[variant][metric]` per sample, in the order of `documents`.

    `responses` are texts, or (log likelihood, greedy) of every choice, or the log likelihood of a whole text.
    `aggregates` are lm-eval's, metrics named as there: `exact_match,strict-match`; `rises` tells of each
    whether higher is better. `notes` say what differs from lm-eval's own model.
    """

    plan: TaskPlan
    documents: tuple[TaskDocument, ...]
    metric: str
    rises: Mapping[str, bool]
    values: Mapping[str, Mapping[str, tuple[Value, ...]]]
    aggregates: Mapping[str, Mapping[str, float]]
    responses: Mapping[str, tuple[tuple[Response, ...], ...]]
    notes: tuple[str, ...] = ()

    @property
    def higher_is_better(self) -> bool:
        """Of the headline metric."""
        return self.rises[self.metric]

    def numbers(self, variant: str, metric: str | None = None) -> Float64[ndarray, " sample"]:
        """The metric of every sample; raises `DataError` for one that is no number per sample."""
        name = metric or self.metric
        held = self.values[variant].get(name)
        if (
            held is None
            or len(held) != len(self.documents)
            or not all(isinstance(value, _NUMBERS) for value in held)
        ):
            raise DataError(
                f"{self.plan.name} has no number for each example in {name!r}", f"use {self.metric!r} of this task"
            )
        return np.array(held, dtype=np.float64)


def run_task(
    loaded: LoadedTask,
    engine: Engine,
    base: "LoadedBase",
    *,
    judge: Judge | None = None,
    control: Control = SILENT,
) -> TaskScores:
    """Scores of every variant of an engine on a loaded task, with lm-eval's own filters and metrics.

    loaded: the task with the requests of one slice.
    engine: answers for all its variants at once.
    base: the base model; its tokenizer and config make token ids of texts.
    judge: runs generated programs, apart from this process.
    control: hears what the engine tells.

    Raises `DataError` when a judge is missing or a request does not fit the model, and `Cancelled`.
    """
    task, name = loaded.task, loaded.plan.name
    if loaded.needs_judge and judge is None:
        raise DataError(
            f"the answers to {name} are programs, and nothing here may run them", "give a judge of programs"
        )
    texts = Texts(base.tokenizer, base.model.config)
    answers: dict[str, dict[int, Response]] = {}
    for kind in KINDS:
        places = [place for place, request in enumerate(task.instances) if request.request_type == kind]
        if places:
            requests = [task.instances[place].args for place in places]
            for variant, found in _answer(kind, requests, texts, engine, control).items():
                answers.setdefault(variant, {}).update(zip(places, found, strict=True))
    values, aggregates = {}, {}
    for variant, responses in answers.items():
        # every variant draws what lm-eval would draw after its own run
        with quiet(), kept_random_state(loaded.state), judging(judge), refusing(name, "score"):
            values[variant], aggregates[variant] = _metrics(task, responses, control)
    # a definition's first metric and filter come first; only the scores themselves tell the metric's full name
    metric = next(iter(next(iter(values.values()), {})), "")
    directions = task.higher_is_better()
    names = dict.fromkeys([metric, *next(iter(values.values()), {})])
    rises = {name: bool(directions.get(name.rpartition(",")[0], True)) for name in names}
    kept = {variant: _by_sample(task, responses) for variant, responses in answers.items()}
    return TaskScores(loaded.plan, loaded.documents, metric, rises, values, aggregates, kept, _notes(task, base))


def _answer(
    kind: str,
    requests: Sequence[tuple[Any, ...]],
    texts: Texts,
    engine: Engine,
    control: Control,
) -> dict[str, list[Response]]:
    """The responses of every variant to requests of one kind."""
    if kind == "loglikelihood":
        pairs = [texts.pair(context, continuation) for context, continuation in requests]
        scored = engine.log_likelihoods(pairs, control=control)
        return {name: [(s.log_likelihood, s.greedy) for s in scores] for name, scores in scored.items()}
    if kind == "loglikelihood_rolling":
        windows = [texts.windows(text) for (text,) in requests]
        scored = engine.log_likelihoods([pair for part in windows for pair in part], control=control)
        return {name: _sums(scores, [len(part) for part in windows]) for name, scores in scored.items()}
    endings = [texts.ending(options) for _, options in requests]
    prompts = [texts.prompt(context, ending) for (context, _), ending in zip(requests, endings, strict=True)]
    limits = [ending.new_tokens for ending in endings]
    generated = engine.generate(prompts, max_new_tokens=limits, stop=texts.stops(endings), control=control)
    return {
        name: [texts.answer(ids, ending) for ids, ending in zip(rows, endings, strict=True)]
        for name, rows in generated.items()
    }


def _sums(scores: Sequence[Score], lengths: Sequence[int]) -> list[Response]:
    ends = np.cumsum(lengths)
    return [
        float(sum(score.log_likelihood for score in scores[end - length : end]))
        for end, length in zip(ends, lengths, strict=True)
    ]


def _metrics(
    task: Any, responses: Mapping[int, Response], control: Control
) -> tuple[dict[str, tuple[Value, ...]], dict[str, float]]:
    """Filters, metrics and aggregates of lm-eval for one variant."""
    original = task._instances
    # filters write into the requests of the task, which other variants use too
    task._instances = [copy.copy(request) for request in original]
    try:
        for place, request in enumerate(task._instances):
            request.resps, request.filtered_resps = [responses[place]] * (request.repeats or 1), {}
        task.apply_filters()
        held: dict[str, list[Value]] = {}
        for key in task._instances[0].filtered_resps:
            for requests in by_document(task):
                control.heed()
                responded = [request.filtered_resps[key] for request in requests]
                with about(requests[0].doc):
                    found = task.process_results(requests[0].doc, responded)
                for metric, value in found.items():
                    held.setdefault(f"{metric},{key}", []).append(value)
    finally:
        task._instances = original
    rules = task.aggregation()
    totals = {name: rules.get(name.rpartition(",")[0], np.mean)(values) for name, values in held.items()}
    return {name: tuple(values) for name, values in held.items()}, totals


def _by_sample(task: Any, responses: Mapping[int, Response]) -> tuple[tuple[Response, ...], ...]:
    places = {id(request): place for place, request in enumerate(task.instances)}
    return tuple(tuple(responses[places[id(request)]] for request in group) for group in by_document(task))


def _notes(task: Any, base: "LoadedBase") -> tuple[str, ...]:
    kinds = {request.request_type for request in task.instances}
    settings = steering(getattr(base.model, "generation_config", None)) if "generate_until" in kinds else []
    return tuple(f"lm-eval's model would follow the base model's own setting {setting}" for setting in settings)
