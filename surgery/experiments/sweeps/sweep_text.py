"""A sweep as one JSON-ready object and as text."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from surgery.evaluation import ledger_record
from surgery.experiments.sweeps.plan import Cost, cost_text
from surgery.experiments.sweeps.results import CellResult, edit_values, failures, metrics_of
from surgery.experiments.sweeps.run import Swept
from surgery.experiments.sweeps.tables import TABLES, SweptTable, table


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
