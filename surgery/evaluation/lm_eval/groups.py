"""A group's scores from those of its tasks: totals as lm-eval adds them up, and numbers of every document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgery.errors import DataError
from surgery.evaluation.lm_eval.process_state import quiet

Value = Any  # a number for most metrics; what an aggregation of lm-eval takes for others
SLASH = "/"  # between a task or group and its metric, in the totals of a group


@dataclass(frozen=True)
class TaskTotals:
    """What one task of a variant scored: values of every document by metric, and lm-eval's totals of them."""

    values: Mapping[str, tuple[Value, ...]]
    totals: Mapping[str, float]

    @property
    def count(self) -> int:
        """How many documents lm-eval counts the task with."""
        return max(map(len, self.values.values()), default=0)


def joined_values(tasks: Mapping[str, TaskTotals], documents: Mapping[str, int]) -> dict[str, tuple[Value, ...]]:
    """The values of all documents, task after task, of the metrics that every task has for each of its documents.

    tasks: by name.
    documents: how many each task was asked.
    """
    first = next(iter(tasks.values()))
    shared = [
        metric
        for metric in first.values
        if all(len(task.values.get(metric, ())) == documents[name] for name, task in tasks.items())
    ]
    return {metric: tuple(value for task in tasks.values() for value in task.values[metric]) for metric in shared}


def group_totals(group: Any, tasks: Mapping[str, TaskTotals]) -> dict[str, float]:
    """lm-eval's own totals of a group, then those of its groups and tasks as `name/metric`.

    group: lm-eval's, None for tasks that a tag names, which nothing adds up.
    tasks: by name.
    """
    found = {name: {"sample_len": task.count, **task.totals} for name, task in tasks.items()}
    own: dict[str, float] = {}
    below: dict[str, float] = {}
    with quiet():
        if group is not None:
            own = _metrics(group.aggregate(found))
            for each in group.get_all_groups():
                below |= {
                    f"{each.name}{SLASH}{key}": value for key, value in _metrics(each.aggregate(found)).items()
                }
    for name, task in tasks.items():
        below |= {f"{name}{SLASH}{key}": value for key, value in task.totals.items()}
    return own | below


def _metrics(aggregated: Mapping[str, Any]) -> dict[str, float]:
    return {key: value for key, value in aggregated.items() if "," in key and "_stderr," not in key}


def headline(name: str, group: Any, values: Mapping[str, Sequence[Value]], totals: Mapping[str, float]) -> str:
    """The metric that verdicts go by: the first that the group adds up, or else that its tasks share.

    Raises `DataError` where the tasks share none.
    """
    known = [key for key in totals if SLASH not in key and key in values] or list(values)
    if not known:
        tasks = sorted({key.partition(SLASH)[0] for key in totals if SLASH in key})
        raise DataError(
            f"the tasks of {name} have no metric in common",
            f"ask them one by one: {', '.join(tasks[:4])}{' …' if len(tasks) > 4 else ''}",
        )
    return known[0]


def macro_metrics(group: Any, metrics: Sequence[str]) -> frozenset[str]:
    """The metrics of which the group takes the mean over its tasks, each counting the same whatever its size."""
    rules = [rule for rule in getattr(group, "aggregate_metric_list", None) or [] if not rule.weight_by_size]
    return frozenset(
        key
        for key in metrics
        for rule in rules
        if key.partition(",")[0] == rule.metric
        and (rule.filter_list is None or key.partition(",")[2] in rule.filter_list)
    )
