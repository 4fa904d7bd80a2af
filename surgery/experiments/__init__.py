"""An edit against its controls, ablations, tuning and search."""

from surgery.experiments.ablations import DIAGNOSTICS, Diagnostic
from surgery.experiments.control_edits import (
    EDIT,
    SAME_NORM,
    ControlledEdits,
    ControlRules,
    control_sets,
    is_reserved,
    random_controls,
    rules_of,
    scale_control,
    with_controls,
)
from surgery.experiments.knob_search import Search, SearchLimits, search
from surgery.experiments.proof import Proof, prove, recipe_digest, sigma_digest
from surgery.experiments.recipe_run import run_recipe
from surgery.experiments.shuffled_gains import shuffled_gains
from surgery.experiments.tuning import KnobPoint, TuningSetup, measure_edits, sweep_knob, sweep_values, tuning_plan

__all__ = [
    "DIAGNOSTICS",
    "EDIT",
    "SAME_NORM",
    "ControlRules",
    "ControlledEdits",
    "Diagnostic",
    "KnobPoint",
    "Proof",
    "Search",
    "SearchLimits",
    "TuningSetup",
    "control_sets",
    "is_reserved",
    "measure_edits",
    "prove",
    "random_controls",
    "recipe_digest",
    "rules_of",
    "run_recipe",
    "scale_control",
    "search",
    "shuffled_gains",
    "sigma_digest",
    "sweep_knob",
    "sweep_values",
    "tuning_plan",
    "with_controls",
]
