"""Grids of edits and recipes over adapters and tasks, in process or on Ray, and evidence over adapters."""

from surgery.experiments.sweeps.evidence import OWN_TASKS, Evidence, MethodEvidence, OnAdapter, evidence
from surgery.experiments.sweeps.evidence_files import (
    change_text,
    evidence_markdown,
    evidence_record,
    interval_text,
    notes_of,
    number_text,
    on_adapter_text,
    over_text,
    p_text,
    scaled,
    write_evidence,
)
from surgery.experiments.sweeps.guards import GuardedCells, guard_rows, guarded_cells, guards_text, write_guards
from surgery.experiments.sweeps.kept import KeptSweep, kept_sweeps
from surgery.experiments.sweeps.ledger import finished
from surgery.experiments.sweeps.members import pinned_sweep, refused_text
from surgery.experiments.sweeps.of_set import sweep_file, sweep_of_set
from surgery.experiments.sweeps.plan import SweepPlan, check, cost, cost_text, expand, passes_of, variant_name
from surgery.experiments.sweeps.ray_runner import on_ray, request
from surgery.experiments.sweeps.resources import Resources
from surgery.experiments.sweeps.results import CellResult, edit_values, failures, results
from surgery.experiments.sweeps.run import Runner, Swept, in_process, run_sweep, so_far
from surgery.experiments.sweeps.spec import Refused, Sweep, parse_sweep, read_sweep
from surgery.experiments.sweeps.sweep_text import sweep_record, sweep_text
from surgery.experiments.sweeps.swept_edit import SweptEdit
from surgery.experiments.sweeps.tables import TABLES, SweptTable, table, write_tables

__all__ = [
    "OWN_TASKS",
    "TABLES",
    "CellResult",
    "Evidence",
    "GuardedCells",
    "KeptSweep",
    "MethodEvidence",
    "OnAdapter",
    "Refused",
    "Resources",
    "Runner",
    "Sweep",
    "SweepPlan",
    "Swept",
    "SweptEdit",
    "SweptTable",
    "change_text",
    "check",
    "cost",
    "cost_text",
    "edit_values",
    "evidence",
    "evidence_markdown",
    "evidence_record",
    "expand",
    "failures",
    "finished",
    "guard_rows",
    "guarded_cells",
    "guards_text",
    "in_process",
    "interval_text",
    "kept_sweeps",
    "notes_of",
    "number_text",
    "on_adapter_text",
    "on_ray",
    "over_text",
    "p_text",
    "parse_sweep",
    "passes_of",
    "pinned_sweep",
    "read_sweep",
    "refused_text",
    "request",
    "results",
    "run_sweep",
    "scaled",
    "so_far",
    "sweep_file",
    "sweep_of_set",
    "sweep_record",
    "sweep_text",
    "table",
    "variant_name",
    "write_evidence",
    "write_guards",
    "write_tables",
]
