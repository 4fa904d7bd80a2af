"""Guards of a sweep: further questions for every variant of an adapter, and what each edit gains against what it costs.

A group of a sweep then has a run for its own task and one for each guard, kept together as proofs with guards are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from surgery.evaluation import TaskOutcome
from surgery.experiments.sweeps.evidence_files import scaled
from surgery.experiments.sweeps.run import Swept
from surgery.experiments.sweeps.table_files import csv_text, write_files
from surgery.runs import group_outcomes

GUARDS_FILE = "guards.csv"
_COLUMNS = (
    "adapter",
    "task",
    "variant",
    "question",
    "guard",
    "measure",
    "unit",
    "examples",
    "unedited",
    "gain",
    "standard_error",
    "low",
    "high",
)


@dataclass(frozen=True)
class GuardedCells:
    """What one pass of an adapter on a task found on its own task and on each guard."""

    adapter: str
    task: str
    outcomes: tuple[TaskOutcome, ...]


def guarded_cells(swept: Swept) -> tuple[GuardedCells, ...]:
    """The passes whose guards were answered, in the order of the sweep; raises `DataError` for runs that were changed."""
    found = []
    for (group, run), beside in zip(swept.runs, swept.guards, strict=True):
        if beside:
            found.append(GuardedCells(group.adapter.name, group.task.name, group_outcomes((run, *beside))))
    return tuple(found)


def guard_rows(found: Sequence[GuardedCells]) -> list[dict[str, Any]]:
    """A row for each variant on each question and metric: its gain over the unedited adapter, above 0 where it is better.

    Shares are in points; `low` and `high` end the 95 % interval, paired by example.
    """
    return [
        {
            "adapter": cells.adapter,
            "task": cells.task,
            "variant": variant,
            "question": each.question,
            "guard": each.guard,
            "measure": each.metric.title,
            "unit": each.metric.unit,
            "examples": each.examples,
            "unedited": scaled(each.metric, each.mean),
            **_gain(each, variant),
        }
        for cells in found
        for each in cells.outcomes
        for variant in each.changes
    ]


def _gain(outcome: TaskOutcome, variant: str) -> Mapping[str, float]:
    gain = asdict(outcome.gain(variant))
    return {"gain": gain.pop("mean"), **gain}


def guards_text(found: Sequence[GuardedCells]) -> str:
    """Gains on the own task beside those on the guards, a line for each variant of each pass; empty without guards."""
    lines = []
    for cells in found:
        lines += [
            "",
            f"{cells.adapter} on {cells.task}, own task against guards (above 0 is better, ~ is within noise)",
        ]
        for variant in cells.outcomes[0].changes:
            told = [_said(each, variant) for each in cells.outcomes if variant in each.changes]
            lines.append(f"  {variant}: {'; '.join(told)}")
    return "".join(f"\n{line}" for line in lines)


def _said(outcome: TaskOutcome, variant: str) -> str:
    whose = "guard " if outcome.guard else ""
    return f"{whose}{outcome.question} {outcome.metric.title} {outcome.gain_text(variant)}"


def write_guards(found: Sequence[GuardedCells], folder: Path | str) -> list[Path]:
    """Write `guards.csv` to a folder, nothing without guards; raises `SweepError` where that cannot be done."""
    if not found:
        return []
    rows = ([row[column] for column in _COLUMNS] for row in guard_rows(found))
    return write_files(folder, {GUARDS_FILE: csv_text(_COLUMNS, rows)}, "the guards")
