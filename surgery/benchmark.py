"""Edits and random controls on an lm-eval task, paired with the unedited adapter and tested for luck.

One pass of the engine answers for all variants; slices that the edits were made or chosen on may share
no example with the task's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.calibration import Row
from surgery.content import refuse_shared
from surgery.edit import Edit
from surgery.engine import VariantEngine
from surgery.errors import DataError
from surgery.evaluate import BASELINE, Effect, paired_effect
from surgery.judge import Judge
from surgery.significance import McNemar, holm, mcnemar
from surgery.task_scores import TaskScores, run_task
from surgery.tasks import LoadedTask

if TYPE_CHECKING:
    from surgery.live import LiveModel


@dataclass(frozen=True)
class Benchmark:
    """What variants scored on a task, and how sure their differences to the unedited adapter are."""

    scores: TaskScores

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(name for name in self.scores.values if name != BASELINE)

    @cached_property
    def effects(self) -> Mapping[str, Effect]:
        """Paired change of the task's headline metric, with its 95 % bootstrap interval."""
        before = self.scores.numbers(BASELINE)
        return {name: paired_effect(before, self.scores.numbers(name)) for name in self.variants}

    @cached_property
    def tests(self) -> Mapping[str, McNemar]:
        """McNemar's exact test of every variant; empty for a metric that is not 0 or 1."""
        before = self.scores.numbers(BASELINE)
        if not np.isin(before, (0.0, 1.0)).all():
            return {}
        return {name: mcnemar(before, self.scores.numbers(name)) for name in self.variants}

    @cached_property
    def adjusted(self) -> Mapping[str, float]:
        """McNemar's p after Holm's correction for all variants shown."""
        return holm({name: test.p for name, test in self.tests.items()})

    def record(self) -> dict[str, Any]:
        """As plain values: aggregates of every variant, changes and tests, and the digest of the slice."""
        variants: dict[str, Any] = {}
        for name, aggregates in self.scores.aggregates.items():
            variants[name] = {"aggregates": dict(aggregates), "mean": float(self.scores.numbers(name).mean())}
            if name != BASELINE:
                variants[name]["change"] = asdict(self.effects[name])
            if name in self.tests:
                variants[name]["mcnemar"] = asdict(self.tests[name]) | {"holm": self.adjusted[name]}
        return {
            "task": self.scores.plan.values(),
            "metric": self.scores.metric,
            "higher_is_better": self.scores.higher_is_better,
            "examples": len(self.scores.samples),
            "baseline": BASELINE,
            "variants": variants,
            "notes": list(self.scores.notes),
        }


def benchmark(
    live: "LiveModel",
    loaded: LoadedTask,
    edits: Mapping[str, Edit],
    *,
    judge: Judge | None = None,
    rows: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Benchmark:
    """Score the unedited adapter and every edit on the loaded slice, in one pass.

    `rows` bounds the rows of a batch (variants × requests). Raises `DataError` for a task whose answers
    are programs and no judge, and `Cancelled`.
    """
    if BASELINE in edits:
        raise DataError(f"a variant cannot be called {BASELINE!r}", "rename it")
    engine = VariantEngine(live, {BASELINE: None, **edits}, rows=rows)
    return Benchmark(run_task(loaded, engine, live.base, judge=judge, progress=progress, cancelled=cancelled))


def refuse_seen(loaded: LoadedTask, seen: Mapping[str, Sequence[Row]]) -> None:
    """Raise `DataError` where the slice shares an example with rows that edits were made or chosen on."""
    refuse_shared({**seen, f"the slice of {loaded.plan.name}": loaded.samples})
