"""Grids of edits over adapters and tasks, in process or on Ray."""

from surgery.experiments.sweeps.guards import GuardedCells, guard_rows, guarded_cells, guards_text, write_guards
from surgery.experiments.sweeps.ledger import finished
from surgery.experiments.sweeps.plan import (
    SweepPlan,
    check,
    cost,
    cost_text,
    expand,
    passes_of,
    pinned_sweep,
    variant_name,
)
from surgery.experiments.sweeps.ray_runner import on_ray, request
from surgery.experiments.sweeps.run import Runner, Swept, in_process, run_sweep
from surgery.experiments.sweeps.spec import Resources, parse_sweep, read_sweep
from surgery.experiments.sweeps.tables import (
    TABLES,
    CellResult,
    SweptTable,
    failures,
    results,
    sweep_record,
    sweep_text,
    table,
    write_tables,
)

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
