"""Results of a sweep, cell by cell, and laid out as the paper's Tables 2 to 5 (§5.2 to §5.4).

A cell of those tables that the sweep did not ask for stays empty. Where several edits of the sweep fit one cell,
such as seeds of random_index, it is their mean.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from surgery.edits import groups_text
from surgery.errors import SweepError
from surgery.evaluation import BASELINE, Effect, Ledger, VariantMetrics, holm, ledger_record
from surgery.experiments.sweeps.grids import SweptEdit
from surgery.experiments.sweeps.plan import Cost, SweepCell, cost_text
from surgery.experiments.sweeps.run import Swept
from surgery.files import user_path, write_whole
from surgery.paper import UNEDITED
from surgery.policies import knob_values
from surgery.runs import Run

TABLES = (2, 3, 4, 5)
_BUDGET, _POLICY, _SCOPE, _ENERGY = 128, "grad_direction", "residual", "l1"
_COLUMNS: Mapping[int, Mapping[str, Mapping[str, Any]]] = {
    2: {name: {"policy": name} for name in ("random_index", "smooth_abs", "abs_select", "grad_direction")},
    3: {"l1": {"energy": "l1"}, "none": {"energy": "none"}},
    4: {str(budget): {"budget": budget} for budget in (32, 64, 128, 256)},
    5: {
        "attention_inputs": {"scope": "attention-inputs"},
        "all_modules": {"scope": "all"},
        "residual": {"scope": "residual"},
    },
}


@dataclass(frozen=True)
class CellResult:
    """A cell with its run: means and paired changes by metric, and the tests corrected for the whole sweep.

    `changes` holds mean, standard error and the 95 % interval against the unedited adapter; `holm` is McNemar's p
    after Holm's correction for every variant that the sweep put to this adapter and task. `ledgers` are there by metric
    where the base was asked.
    """

    cell: SweepCell
    run: str
    examples: int
    baseline: Mapping[str, float]
    means: Mapping[str, float]
    changes: Mapping[str, Effect]
    holm: Mapping[str, float]
    ledgers: Mapping[str, Ledger] = field(default_factory=dict)


@dataclass(frozen=True)
class SweptTable:
    """One table of the paper from this sweep: rows of the paper's columns, in one metric; None where empty."""

    number: int
    metric: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str | float | None], ...]


def results(swept: Swept) -> tuple[CellResult, ...]:
    """Every cell whose run has ended, in the order of the sweep."""
    found: dict[tuple[str, str, str], tuple[Run, VariantMetrics, VariantMetrics]] = {}
    p_values: dict[tuple[str, str, str], dict[str, float]] = {}
    for group, run in swept.runs:
        assert run.metrics is not None
        variants = run.metrics.summary.variants
        for name in group.edits:
            found[group.adapter.name, group.task.name, name] = run, variants[name], variants[BASELINE]
            for metric, test in variants[name].tests.items():
                p_values.setdefault((group.adapter.name, group.task.name, metric), {})[name] = test.p
    adjusted = {place: holm(values) for place, values in p_values.items()}
    told = []
    for cell in swept.plan.cells:
        place = cell.adapter, cell.task, cell.variant
        if place not in found:
            continue
        run, own, baseline = found[place]
        tests = {
            metric: values[cell.variant]
            for (adapter, task, metric), values in adjusted.items()
            if (adapter, task) == place[:2] and cell.variant in values
        }
        told.append(
            CellResult(
                cell, run.plan.key, run.plan.examples, baseline.means, own.means, own.changes, tests, own.ledgers
            )
        )
    return tuple(told)


def table(number: int, cells: Sequence[CellResult], metric: str) -> SweptTable:
    """Table `number` of the paper with the means of this sweep; raises `SweepError` for a number it has not."""
    if number not in TABLES:
        raise SweepError(f"a sweep gives no Table {number}", f"use one of {', '.join(map(str, TABLES))}")
    columns = _COLUMNS[number]
    keys = ("model", "task", "policy") if number == 4 else ("model", "task")
    policies = (_POLICY, "random_index") if number == 4 else ("",)
    rows: list[Mapping[str, str | float | None]] = []
    pairs = dict.fromkeys((each.cell.adapter, each.cell.task) for each in cells if metric in each.means)
    for adapter, task in pairs:
        mine = [each for each in cells if (each.cell.adapter, each.cell.task) == (adapter, task)]
        budget = _usual_budget(mine)
        for policy in policies:
            asked: dict[str, Any] = {
                "policy": policy or _POLICY,
                "energy": _ENERGY,
                "scope": _SCOPE,
                "budget": budget,
            }
            numbers = {
                column: _mean([each.means[metric] for each in mine if _fits(each.cell.edit, {**asked, **change})])
                for column, change in columns.items()
            }
            if all(value is None for value in numbers.values()):
                continue
            row: dict[str, str | float | None] = {"model": adapter, "task": task}
            if number == 4:
                row["policy"] = policy
            else:
                row[UNEDITED] = _mean([mine[0].baseline[metric]])
            rows.append(row | numbers)
    header = keys if number == 4 else (*keys, UNEDITED)
    return SweptTable(number, metric, (*header, *columns), tuple(rows))


def _usual_budget(cells: Iterable[CellResult]) -> int:
    """The paper's default where the sweep has it, else the largest."""
    budgets = {each.cell.edit.budget for each in cells}
    return _BUDGET if _BUDGET in budgets else max(budgets)


def _fits(edit: SweptEdit, asked: Mapping[str, Any]) -> bool:
    """Whether an edit stands in this place of a table: with its policy at its default knobs, whatever the seed."""
    policy = edit.plan.policy
    knobs = {name: value for name, value in knob_values(policy).items() if name != "seed"}
    usual = {name: value for name, value in knob_values(type(policy)()).items() if name != "seed"}
    return (
        (policy.name, edit.plan.energy, edit.plan.scope) == (asked["policy"], asked["energy"], asked["scope"])
        and edit.budget == asked["budget"]
        and (edit.plan.sigma_min, edit.plan.strength) == (0, 1)
        and edit.plan.groups.plain
        and knobs == usual
    )


def _mean(values: Sequence[float]) -> float | None:
    """None for none, and where one of them is unknown."""
    return float(np.mean(values)) if values and np.isfinite(values).all() else None


def metrics_of(cells: Sequence[CellResult]) -> tuple[str, ...]:
    """The metrics that any cell has, in the order in which they first come."""
    return tuple(dict.fromkeys(name for each in cells for name in each.means))


def write_tables(cells: Sequence[CellResult], folder: Path | str) -> list[Path]:
    """Write `METRIC/table2.csv` and so on below a folder, in the columns of `assets/paper`; tables without a row
    are left out. Raises `SweepError` where that cannot be done.
    """
    written = []
    try:
        for metric in metrics_of(cells):
            place = user_path(folder, SweepError) / "".join(c if c.isalnum() else "-" for c in metric)
            for number in TABLES:
                made = table(number, cells, metric)
                if made.rows:
                    place.mkdir(parents=True, exist_ok=True)
                    written.append(place / f"table{number}.csv")
                    write_whole(written[-1], _csv(made))
    except OSError as error:
        raise SweepError(
            f"the tables cannot be written to {str(folder)!r} ({error.strerror})", "choose another folder"
        ) from error
    return written


def _csv(made: SweptTable) -> bytes:
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, made.columns, lineterminator="\n")
    writer.writeheader()
    for row in made.rows:
        writer.writerow({k: "" if v is None else v if isinstance(v, str) else f"{v:.4f}" for k, v in row.items()})
    return lines.getvalue().encode()


def sweep_record(swept: Swept, cells: Sequence[CellResult], cost: Cost) -> dict[str, Any]:
    """A sweep as one JSON-ready object."""
    return {
        "cost": asdict(cost),
        "cells": [
            {
                "adapter": each.cell.adapter,
                "task": each.cell.task,
                **edit_values(each.cell.edit),
                "variant": each.cell.variant,
                "run": each.run,
                "examples": each.examples,
                "baseline": dict(each.baseline),
                "means": dict(each.means),
                "changes": {name: asdict(change) for name, change in each.changes.items()},
                "holm": dict(each.holm),
                "ledgers": {metric: ledger_record(found) for metric, found in each.ledgers.items()},
            }
            for each in cells
        ],
        "failed": failures(swept),
        "tables": {
            metric: {str(n): [dict(row) for row in table(n, cells, metric).rows] for n in TABLES}
            for metric in metrics_of(cells)
        },
    }


def edit_values(edit: SweptEdit) -> dict[str, Any]:
    """What tells an edit of a sweep from the others."""
    return {
        "policy": edit.plan.policy.name,
        "knobs": knob_values(edit.plan.policy),
        "scope": edit.plan.scope,
        "energy": edit.plan.energy,
        "sigma_min": edit.plan.sigma_min,
        "strength": edit.plan.strength,
        "groups": groups_text(edit.plan.groups),
        "budget": edit.budget,
        "seed": edit.seed,
    }


def failures(swept: Swept) -> list[dict[str, Any]]:
    """The groups that failed: what they were to answer, how often they were tried, and why they ended."""
    return [
        {
            "adapter": tried.group.adapter.name,
            "task": tried.group.task.name,
            "variants": list(tried.group.edits),
            "attempts": tried.attempts,
            "problem": tried.problem or "its run was not found",
        }
        for tried in swept.failed
    ]


def sweep_text(swept: Swept, cells: Sequence[CellResult], cost: Cost) -> str:
    """A sweep as text: the cells, the paper's tables where it fills them, and what failed."""
    lines = [cost_text(cost), ""]
    metrics = metrics_of(cells)
    if cells:
        width = max(len(each.cell.variant) for each in cells)
        heads = " ".join(f"{name[:22]:>22}" for name in metrics)
        lines.append(f"{'adapter':<12} {'task':<14} {'variant':<{width}} {heads}")
    for each in cells:
        parts = []
        for name in metrics:
            change = each.changes.get(name)
            error = None if change is None else change.standard_error
            parts.append("" if change is None else f"{change.mean:+.4f} ± {_number(error)}")
        told = " ".join(f"{part:>22}" for part in parts)
        lines.append(
            f"{each.cell.adapter:<12} {each.cell.task:<14} {each.cell.variant:<{width}} {told}{_gap_text(each)}"
        )
    for metric in metrics:
        for number in TABLES:
            lines += _table_lines(table(number, cells, metric))
    for failure in failures(swept):
        lines.append(
            f"failed after {failure['attempts']} tries: {failure['adapter']} on {failure['task']}, "
            f"{len(failure['variants'])} variants: {failure['problem']}"
        )
    return "\n".join(lines)


def _gap_text(cell: CellResult) -> str:
    """What a cell forgets by metric, of the edit and of the unedited adapter; empty where the base was not asked."""
    return "".join(
        f"  forgetting gap {name} {found.edited.value:.4f} (unedited {found.unedited.value:.4f})"
        for name, found in cell.ledgers.items()
    )


def _table_lines(made: SweptTable) -> list[str]:
    if not made.rows:
        return []
    lines = ["", f"Table {made.number}, {made.metric}"]
    lines.append(" ".join(f"{column:>16}" for column in made.columns))
    for row in made.rows:
        cells = [row[column] for column in made.columns]
        lines.append(" ".join(f"{cell if isinstance(cell, str) else _number(cell):>16}" for cell in cells))
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.4f}"
