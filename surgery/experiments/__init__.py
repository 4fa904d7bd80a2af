"""An edit against its controls, ablations, tuning and search."""

from surgery.experiments.ablations import DIAGNOSTICS, Diagnostic
from surgery.experiments.control_edits import EDIT, SAME_NORM, random_controls, scale_control, with_controls
from surgery.experiments.knob_search import Search, SearchLimits, search
from surgery.experiments.proof import Proof, prove, recipe_digest, sigma_digest
from surgery.experiments.recipe_run import run_recipe
from surgery.experiments.tuning import KnobPoint, TuningSetup, measure_edits, sweep_knob, sweep_values, tuning_plan

__all__ = [
    "DIAGNOSTICS",
    "EDIT",
    "SAME_NORM",
    "Diagnostic",
    "KnobPoint",
    "Proof",
    "Search",
    "SearchLimits",
    "TuningSetup",
    "measure_edits",
    "prove",
    "random_controls",
    "recipe_digest",
    "run_recipe",
    "scale_control",
    "search",
    "sigma_digest",
    "sweep_knob",
    "sweep_values",
    "tuning_plan",
    "with_controls",
]
