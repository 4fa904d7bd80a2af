"""A task of lm-eval among the rows that judge edits: its documents, a part at a time, by the task's own metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from jaxtyping import Float64
from numpy import ndarray

from surgery.data import Row, TaskPlan
from surgery.errors import DataError
from surgery.model import Variant, VariantEngine
from surgery.progress import Control

if TYPE_CHECKING:
    from surgery.evaluation.lm_eval import LoadedTask
    from surgery.model import LiveModel

_TRIED = "tried"


@dataclass(frozen=True)
class TaskRows:
    """The documents of a task that judge edits, as `task_rows` makes them.

    live: the adapter in its running base model.
    loaded: the task with the requests of all of them.
    """

    live: "LiveModel"
    loaded: "LoadedTask"
    _parts: dict[range, "LoadedTask"] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.loaded.documents)

    def scores(self, part: range, sigma: Variant | None, rows: int, control: Control) -> Float64[ndarray, " row"]:
        """The task's headline metric of each document of a part, turned so that more is better.

        part: places of the documents.
        sigma: σ′ by module; None for the unedited adapter.
        rows: rows of a batch at most.
        """
        from surgery.evaluation.lm_eval import benchmarked

        loaded = self._part(part)
        engine = VariantEngine(self.live, {_TRIED: sigma}, rows=rows)
        base = replace(self.live.base, tokenizer=self.live.tokenizer_named(loaded.plan.tokenizer))
        found = benchmarked(loaded, engine, base, control=control)
        metric = found.metrics[0]
        return found.numbers(_TRIED, metric.name) * (1.0 if metric.higher_is_better else -1.0)

    def _part(self, part: range) -> "LoadedTask":
        from surgery.evaluation.lm_eval import load_task

        if part not in self._parts:
            whole = self.loaded.plan
            plan = replace(whole, limit=len(part), offset=whole.offset + part.start)
            self._parts[part] = load_task(plan, self.live.tokenizer_named(plan.tokenizer))
        return self._parts[part]


def task_rows(live: "LiveModel", plan: TaskPlan, seen: Mapping[str, Sequence[Row]]) -> TaskRows:
    """The documents of a task that is to judge edits.

    live: the adapter in its running base model.
    plan: of one task, whose slice is asked.
    seen: rows that edits are made from, by the names of their slices.

    Raises `DataError` for a group of tasks, for one whose answers are programs, and for documents that are among the
    rows; `NearDuplicatesError` for those that are nearly.
    """
    from surgery.evaluation.lm_eval import has_several_tasks, load_task, refuse_other_models, refuse_seen

    refuse_other_models(live.base.task)
    if has_several_tasks(plan):
        raise DataError(f"{plan.name!r} is a group of tasks, which do not judge as one", "name one of its tasks")
    loaded = load_task(plan, live.tokenizer_named(plan.tokenizer))
    if loaded.needs_judge:
        raise DataError(
            f"the answers to {plan.name} are programs, which a search does not run", "name another task"
        )
    refuse_seen(loaded, seen)
    return TaskRows(live, loaded)
