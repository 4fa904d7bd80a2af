"""Variants scored on a loaded task: the engine answers, lm-eval turns answers into metrics.

For the same model, task and slice the scores are those of `lm_eval.simple_evaluate` with its HF model,
example by example.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import TaskDocument, TaskPlan
from surgery.errors import DataError
from surgery.evaluation.lm_eval.answers import Cut, Engine, Response, answers_to, cut_note, cut_prompts
from surgery.evaluation.lm_eval.code_judge import Judge, about, judging
from surgery.evaluation.lm_eval.groups import (
    TaskTotals,
    Value,
    group_totals,
    headline,
    joined_values,
    macro_metrics,
)
from surgery.evaluation.lm_eval.process_state import kept_random_state, quiet, refusing
from surgery.evaluation.lm_eval.requests import Texts, steering
from surgery.evaluation.lm_eval.tasks import LoadedTask, by_document
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from surgery.model import LoadedBase


_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating)


@dataclass(frozen=True)
class TaskScores:
    """What variants scored on one slice: `values[variant][metric]` per sample, in the order of `documents`.

    `responses` are texts, or (log likelihood, greedy) of every choice, or the log likelihood of a whole text.
    `aggregates` are lm-eval's, metrics named as there: `exact_match,strict-match`; `rises` tells of each
    whether higher is better. A group's also has those of its tasks, as `task/metric`; of the metrics in `macro`
    it takes the mean of its tasks. `cuts` has the cut prompts by the number of the document. `notes` say what
    differs from lm-eval's own model.
    """

    plan: TaskPlan
    documents: tuple[TaskDocument, ...]
    metric: str
    rises: Mapping[str, bool]
    values: Mapping[str, Mapping[str, tuple[Value, ...]]]
    aggregates: Mapping[str, Mapping[str, float]]
    responses: Mapping[str, tuple[tuple[Response, ...], ...]]
    macro: frozenset[str] = frozenset()
    cuts: Mapping[int, Cut] = field(default_factory=dict)
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
    name = loaded.plan.name
    if loaded.needs_judge and judge is None:
        raise DataError(
            f"the answers to {name} are programs, and nothing here may run them", "give a judge of programs"
        )
    texts = Texts(base.tokenizer, base.model.config, loaded.plan.think_end)
    answers, prompts = answers_to(loaded.requests, texts, engine, control)
    values, aggregates = {}, {}
    for variant, responses in answers.items():
        # every variant draws what lm-eval would draw after its own run
        with quiet(), kept_random_state(loaded.state), judging(judge), refusing(name, "score"):
            values[variant], aggregates[variant] = _scored(loaded, responses, control)
    metric, rises = _headline(loaded, values, aggregates)
    cuts = cut_prompts(loaded, texts, prompts)
    return TaskScores(
        plan=loaded.plan,
        documents=loaded.documents,
        metric=metric,
        rises=rises,
        values=values,
        aggregates=aggregates,
        responses={variant: _by_sample(loaded, responses) for variant, responses in answers.items()},
        macro=macro_metrics(loaded.group, list(rises)),
        cuts=cuts,
        notes=(*loaded.notes, *cut_note(cuts, len(loaded.documents), texts.max_length), *_notes(loaded, base)),
    )


def _scored(
    loaded: LoadedTask, responses: Sequence[Response], control: Control
) -> tuple[dict[str, tuple[Value, ...]], dict[str, float]]:
    """Values by metric and totals of one variant, a group's from those of its tasks."""
    found: dict[str, TaskTotals] = {}
    at = 0
    for name, task in loaded.tasks.items():
        count = len(task.instances)
        found[name] = _metrics(task, responses[at : at + count], control)
        at += count
    if loaded.is_single:
        (only,) = found.values()
        return dict(only.values), dict(only.totals)
    documents = {name: len(by_document(task)) for name, task in loaded.tasks.items()}
    return joined_values(found, documents), group_totals(loaded.group, found)


def _metrics(task: Any, responses: Sequence[Response], control: Control) -> TaskTotals:
    """Filters, metrics and aggregates of lm-eval for one variant on one task."""
    original = task._instances
    # filters write into the requests of the task, which other variants use too
    task._instances = [copy.copy(request) for request in original]
    try:
        for request, response in zip(task._instances, responses, strict=True):
            request.resps, request.filtered_resps = [response] * (request.repeats or 1), {}
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
    return TaskTotals({name: tuple(values) for name, values in held.items()}, totals)


def _headline(
    loaded: LoadedTask,
    values: Mapping[str, Mapping[str, Sequence[Value]]],
    totals: Mapping[str, Mapping[str, float]],
) -> tuple[str, dict[str, bool]]:
    """The metric that verdicts go by, and of every metric whether higher is better, the headline first."""
    first, added = next(iter(values.values()), {}), next(iter(totals.values()), {})
    # a definition's first metric and filter come first; only the scores themselves tell the metric's full name
    single = next(iter(first), "")
    metric = single if loaded.is_single else headline(loaded.plan.name, loaded.group, first, added)
    directions = next(iter(loaded.tasks.values())).higher_is_better()
    names = dict.fromkeys([metric, *first])
    return metric, {name: bool(directions.get(name.rpartition(",")[0], True)) for name in names}


def _by_sample(loaded: LoadedTask, responses: Sequence[Response]) -> tuple[tuple[Response, ...], ...]:
    return tuple(tuple(responses[place] for place in places) for places in loaded.places)


def _notes(loaded: LoadedTask, base: "LoadedBase") -> tuple[str, ...]:
    kinds = {request.request_type for request in loaded.requests}
    settings = steering(getattr(base.model, "generation_config", None)) if "generate_until" in kinds else []
    return tuple(f"lm-eval's model would follow the base model's own setting {setting}" for setting in settings)
