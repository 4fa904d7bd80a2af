"""Methods against the adapters of a sweep: each adapter's own paired change, and the effect over all of them.

Every adapter is compared with itself unedited, on the same examples. What is averaged over adapters is the change on
one task that several answered, or on each adapter's own task where a sweep gives every adapter one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from surgery.evaluation import (
    BASELINE,
    LEVEL,
    Effect,
    Evaluation,
    Metric,
    OverAdapters,
    PairedDifferences,
    holm,
    mean_test,
    over_adapters,
    tally,
    verdict,
)
from surgery.experiments.sweeps.results import CellResult
from surgery.experiments.sweeps.swept_edit import SweptEdit
from surgery.runs import Run, stored_run

OWN_TASKS = "each adapter on its own task"


@dataclass(frozen=True)
class OnAdapter:
    """A method on one adapter: paired change with its interval, corrected p, and whether it wins, ties or loses.

    `p` is McNemar's of 0/1 metrics and Student's of others, after Holm's correction for every variant that the sweep
    put to this adapter and task; NaN where an example is too few. `run` is the key of the run that holds it.
    """

    adapter: str
    task: str
    run: str
    examples: int
    baseline: float
    change: Effect
    p: float
    verdict: str


@dataclass(frozen=True)
class MethodEvidence:
    """One method on every adapter that answered, by the adapter's name, and its effect over these."""

    method: str
    edit: SweptEdit
    adapters: Mapping[str, OnAdapter]
    over: OverAdapters

    @property
    def counts(self) -> tuple[int, int, int]:
        """Wins, ties and losses."""
        return tally(each.verdict for each in self.adapters.values())


@dataclass(frozen=True)
class Evidence:
    """The methods of a sweep on one question by one metric; `adapters` are those that answered for any of them."""

    question: str
    metric: Metric
    adapters: tuple[str, ...]
    methods: tuple[MethodEvidence, ...]

    @property
    def by_chance(self) -> float:
        """At most so many adapters would show a win or a loss of some method if none had any effect."""
        return LEVEL * len(self.adapters)


def evidence(cells: Sequence[CellResult]) -> tuple[Evidence, ...]:
    """Methods against adapters for every question and metric; cells whose run has gone are left out.

    Raises `DataError` for a run whose files were changed.
    """
    runs = {key: stored_run(key) for key in dict.fromkeys(each.run for each in cells)}
    kept = [(each, run) for each in cells if (run := runs[each.run]) is not None and run.finished]
    found = []
    for question, asked in _questions(kept).items():
        metrics = {metric.name: metric for _, run in asked for metric in run.evaluation.metrics}
        for metric in metrics.values():
            methods = tuple(_methods(asked, metric))
            if methods:
                names = dict.fromkeys(name for method in methods for name in method.adapters)
                found.append(Evidence(question, metric, tuple(names), methods))
    return tuple(found)


Asked = list[tuple[CellResult, Run]]


def _questions(kept: Asked) -> dict[str, Asked]:
    """The cells by task; all together where every adapter has one task and these are several."""
    pairs = dict.fromkeys((each.cell.adapter, each.cell.task) for each, _ in kept)
    tasks = list(dict.fromkeys(task for _, task in pairs))
    if len(tasks) > 1 and len(pairs) == len({adapter for adapter, _ in pairs}):
        return {OWN_TASKS: kept}
    return {task: [(each, run) for each, run in kept if each.cell.task == task] for task in tasks}


def _methods(asked: Asked, metric: Metric) -> Iterator[MethodEvidence]:
    """The methods that this metric was measured of, each once, in the order of the sweep."""
    corrected = _corrected(asked, metric)
    by_method: dict[str, dict[str, tuple[CellResult, Run]]] = {}
    for each, run in asked:
        if _measured(run.evaluation, each.cell.variant, metric):
            by_method.setdefault(each.cell.variant, {}).setdefault(each.cell.adapter, (each, run))
    for method, found in by_method.items():
        members = {
            name: _on_adapter(each, metric, corrected[name, each.cell.task][method])
            for name, (each, _) in found.items()
        }
        evaluations = [run.evaluation for _, run in found.values()]
        differences = [_differences(each, method, metric) for each in evaluations]
        rows = {tuple(sample.key for sample in each.samples) for each in evaluations}
        over = over_adapters(differences, same_rows=len(rows) == 1 and len(found) > 1)
        edit = next(iter(found.values()))[0].cell.edit
        yield MethodEvidence(method, edit, members, over)


def _measured(evaluation: Evaluation, variant: str, metric: Metric) -> bool:
    """Whether every example has this metric: answers that were not asked for have none."""
    if all(each.name != metric.name for each in evaluation.metrics):
        return False
    numbers = [evaluation.numbers(name, metric.name) for name in (BASELINE, variant)]
    return bool(np.isfinite(numbers).all() and evaluation.samples)


def _differences(evaluation: Evaluation, variant: str, metric: Metric) -> PairedDifferences:
    own = evaluation.metric(metric.name)
    numbers = evaluation.numbers(variant, metric.name) - evaluation.numbers(BASELINE, metric.name)
    return PairedDifferences(numbers, evaluation.parts if own.macro else None)


def _corrected(asked: Asked, metric: Metric) -> dict[tuple[str, str], dict[str, float]]:
    """p by adapter and task and by variant, after Holm's correction for the variants of that adapter and task."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for each, run in asked:
        if metric.name not in each.changes:
            continue
        test = run.metrics.summary.variants[each.cell.variant].tests.get(metric.name) if run.metrics else None
        change, parts = each.changes[metric.name], 1
        if metric.macro:
            parts = len(set(run.evaluation.parts))
        p = mean_test(change.mean, change.standard_error, each.examples - parts) if test is None else test.p
        found.setdefault((each.cell.adapter, each.cell.task), {})[each.cell.variant] = p
    return {place: holm(values) for place, values in found.items()}


def _on_adapter(each: CellResult, metric: Metric, p: float) -> OnAdapter:
    change = each.changes[metric.name]
    return OnAdapter(
        each.cell.adapter,
        each.cell.task,
        each.run,
        each.examples,
        each.baseline[metric.name],
        change,
        p,
        verdict(change.mean, p, higher_is_better=metric.higher_is_better),
    )
