"""From gains to σ′: manual gains, clamp, energy rule, preview."""

from surgery.edits.activation_cut import Turned, activation_cuts, truncated, turned
from surgery.edits.best_step import BestStep, best_step
from surgery.edits.budgets import budgets, expected_by_budget
from surgery.edits.edit import (
    ENERGY_RULES,
    Edit,
    ModuleEdit,
    check_rules,
    checked_sensitivity,
    edit_modules,
    edit_stack,
    gains_of,
    make_edit,
)
from surgery.edits.expectation import (
    Expectation,
    expected,
    expected_beside,
    expected_from,
    expected_of_edit,
    predictions,
)
from surgery.edits.fold_edits import FoldEdits, edit_as_fold, fold_edits
from surgery.edits.grid import Grid, grid_of, searchable, with_knobs
from surgery.edits.group_knobs import FAMILY, THIRD, group_knobs, group_value, is_group_knob, with_group
from surgery.edits.kept import Kept, kept_in_sum, kept_of
from surgery.edits.knob_steps import KnobTable, end_to_end, knob_table
from surgery.edits.largest import LargestValues, largest_text, largest_values
from surgery.edits.layer_groups import (
    LARGEST_GAIN,
    THIRDS,
    LayerGroups,
    component_gains,
    group_gains,
    grouped,
    groups_record,
    groups_text,
    parse_groups,
    scaled_module,
    scaled_sigma,
    thirds_of,
)
from surgery.edits.manual import hold, put, release
from surgery.edits.plan import EditPlan, edit_record, parse_edit, stored_edit
from surgery.edits.preview import Preview, preview, summary
from surgery.edits.protection import spared, without_harm
from surgery.edits.pulls import Pulls, component_pulls, pulls
from surgery.edits.strength import STRENGTH, STRONGEST, check_strength, modules_at, sigma_at, with_strength

__all__ = [
    "ENERGY_RULES",
    "FAMILY",
    "LARGEST_GAIN",
    "STRENGTH",
    "STRONGEST",
    "THIRD",
    "THIRDS",
    "BestStep",
    "Edit",
    "EditPlan",
    "Expectation",
    "FoldEdits",
    "Grid",
    "Kept",
    "KnobTable",
    "LargestValues",
    "LayerGroups",
    "ModuleEdit",
    "Preview",
    "Pulls",
    "Turned",
    "activation_cuts",
    "best_step",
    "budgets",
    "check_rules",
    "check_strength",
    "checked_sensitivity",
    "component_gains",
    "component_pulls",
    "edit_as_fold",
    "edit_modules",
    "edit_record",
    "edit_stack",
    "end_to_end",
    "expected",
    "expected_beside",
    "expected_by_budget",
    "expected_from",
    "expected_of_edit",
    "fold_edits",
    "gains_of",
    "grid_of",
    "group_gains",
    "group_knobs",
    "group_value",
    "grouped",
    "groups_record",
    "groups_text",
    "hold",
    "is_group_knob",
    "kept_in_sum",
    "kept_of",
    "knob_table",
    "largest_text",
    "largest_values",
    "make_edit",
    "modules_at",
    "parse_edit",
    "parse_groups",
    "predictions",
    "preview",
    "pulls",
    "put",
    "release",
    "scaled_module",
    "scaled_sigma",
    "searchable",
    "sigma_at",
    "spared",
    "stored_edit",
    "summary",
    "thirds_of",
    "truncated",
    "turned",
    "with_group",
    "with_knobs",
    "with_strength",
    "without_harm",
]
