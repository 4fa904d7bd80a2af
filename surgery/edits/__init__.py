"""From gains to σ′: manual gains, clamp, energy rule, preview."""

from surgery.edits.edit import (
    ENERGY_RULES,
    Edit,
    ModuleEdit,
    Preview,
    check_rules,
    edit_modules,
    make_edit,
    preview,
    summary,
)
from surgery.edits.grid import Grid, grid_of, searchable, with_knobs
from surgery.edits.knob_steps import KnobTable, end_to_end, knob_table
from surgery.edits.largest import LargestValues, largest_text, largest_values
from surgery.edits.manual import hold, put, release
from surgery.edits.plan import EditPlan, edit_record, parse_edit

__all__ = [
    "ENERGY_RULES",
    "Edit",
    "EditPlan",
    "Grid",
    "KnobTable",
    "LargestValues",
    "ModuleEdit",
    "Preview",
    "check_rules",
    "edit_modules",
    "edit_record",
    "end_to_end",
    "grid_of",
    "hold",
    "knob_table",
    "largest_text",
    "largest_values",
    "make_edit",
    "parse_edit",
    "preview",
    "put",
    "release",
    "searchable",
    "summary",
    "with_knobs",
]
