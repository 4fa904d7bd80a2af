"""A sweep laid out as the paper's Tables 2 to 5 (§5.2 to §5.4).

A cell of those tables that the sweep did not ask for stays empty. Where several edits of the sweep fit one cell,
such as seeds of random_index, it is their mean.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from surgery.errors import SweepError
from surgery.experiments.sweeps.results import CellResult, metrics_of
from surgery.experiments.sweeps.swept_edit import SweptEdit
from surgery.experiments.sweeps.table_files import csv_text, write_files
from surgery.paper import UNEDITED
from surgery.policies import knob_values

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
class SweptTable:
    """One table of the paper from this sweep: rows of the paper's columns, in one metric; None where empty."""

    number: int
    metric: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str | float | None], ...]


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
        and not any(edit.plan.manual.values())
        and knobs == usual
    )


def _mean(values: Sequence[float]) -> float | None:
    """None for none, and where one of them is unknown."""
    return float(np.mean(values)) if values and np.isfinite(values).all() else None


def write_tables(cells: Sequence[CellResult], folder: Path | str) -> list[Path]:
    """Write `METRIC/table2.csv` and so on below a folder, in the columns of `assets/paper`; tables without a row
    are left out. Raises `SweepError` where that cannot be done.
    """
    texts = {}
    for metric in metrics_of(cells):
        place = "".join(c if c.isalnum() else "-" for c in metric)
        for number in TABLES:
            made = table(number, cells, metric)
            if made.rows:
                rows = ([_told(row.get(column)) for column in made.columns] for row in made.rows)
                texts[f"{place}/table{number}.csv"] = csv_text(made.columns, rows)
    return write_files(folder, texts, "the tables")


def _told(cell: str | float | None) -> str:
    return "" if cell is None else cell if isinstance(cell, str) else f"{cell:.4f}"
