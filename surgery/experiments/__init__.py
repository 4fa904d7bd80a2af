"""An edit against its controls, ablations, tuning and search."""

from surgery.experiments.ablations import DIAGNOSTICS, Diagnostic
from surgery.experiments.control_edits import (
    CONTROLS,
    EDIT,
    ControlledEdits,
    ControlRules,
    control_sets,
    is_reserved,
    random_controls,
    rules_of,
    shape_controls,
    with_controls,
)
from surgery.experiments.knob_search import Search, SearchLimits, search
from surgery.experiments.proof import Proof, prove, recipe_digest, sigma_digest
from surgery.experiments.recipe_run import run_recipe
from surgery.experiments.scale_or_shape import (
    READS_Q,
    Flat,
    control_of,
    flat_of,
    head_only,
    input_energies,
    one_scale,
    scalar_e,
    scalar_f,
    scalar_n,
    shape_only,
    shuffled_scales,
    tail_only,
)
from surgery.experiments.shape_expectations import shape_expectations
from surgery.experiments.shuffled_gains import shuffled_gains
from surgery.experiments.tuning import KnobPoint, TuningSetup, measure_edits, sweep_knob, sweep_values, tuning_plan

__all__ = [
    "CONTROLS",
    "DIAGNOSTICS",
    "EDIT",
    "READS_Q",
    "ControlRules",
    "ControlledEdits",
    "Diagnostic",
    "Flat",
    "KnobPoint",
    "Proof",
    "Search",
    "SearchLimits",
    "TuningSetup",
    "control_of",
    "control_sets",
    "flat_of",
    "head_only",
    "input_energies",
    "is_reserved",
    "measure_edits",
    "one_scale",
    "prove",
    "random_controls",
    "recipe_digest",
    "rules_of",
    "run_recipe",
    "scalar_e",
    "scalar_f",
    "scalar_n",
    "search",
    "shape_controls",
    "shape_expectations",
    "shape_only",
    "shuffled_gains",
    "shuffled_scales",
    "sigma_digest",
    "sweep_knob",
    "sweep_values",
    "tail_only",
    "tuning_plan",
    "with_controls",
]
