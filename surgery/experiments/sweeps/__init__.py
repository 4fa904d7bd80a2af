"""Grids of edits over adapters and tasks, in process or on Ray."""

from surgery.experiments.sweeps.guards import GuardedCells, guard_rows, guarded_cells, guards_text, write_guards
from surgery.experiments.sweeps.ledger import finished
from surgery.experiments.sweeps.members import pinned_sweep, refused_text
from surgery.experiments.sweeps.plan import (
    SweepPlan,
    check,
    cost,
    cost_text,
    expand,
    passes_of,
    variant_name,
)
from surgery.experiments.sweeps.ray_runner import on_ray, request
from surgery.experiments.sweeps.results import CellResult, edit_values, failures, results
from surgery.experiments.sweeps.run import Runner, Swept, in_process, run_sweep
from surgery.experiments.sweeps.spec import Resources, parse_sweep, read_sweep
from surgery.experiments.sweeps.sweep_text import sweep_record, sweep_text
from surgery.experiments.sweeps.tables import TABLES, SweptTable, table, write_tables

__all__ = [
    "TABLES",
    "CellResult",
    "GuardedCells",
    "Resources",
    "Runner",
    "SweepPlan",
    "Swept",
    "SweptTable",
    "check",
    "cost",
    "cost_text",
    "edit_values",
    "expand",
    "failures",
    "finished",
    "guard_rows",
    "guarded_cells",
    "guards_text",
    "in_process",
    "on_ray",
    "parse_sweep",
    "passes_of",
    "pinned_sweep",
    "read_sweep",
    "refused_text",
    "request",
    "results",
    "run_sweep",
    "sweep_record",
    "sweep_text",
    "table",
    "variant_name",
    "write_guards",
    "write_tables",
]
