"""Figures: plain arrays and labels in, a plotly Figure out. Knows neither the app nor the method."""

from viz.edits import gain_map, spectrum_before_and_after
from viz.effects import BudgetCurve, budget_curves, dose_response, effect_intervals, sweep_curve
from viz.flow import Stream, outcome_flow
from viz.forest import ForestRow, Pooled, forest
from viz.front import FrontAxis, TriedPoint, protected_front, search_front
from viz.gains import gain_thumbnail
from viz.geometry import Heatmap, alignment_heatmaps, component_map
from viz.guards import GuardPanel, own_against_guards
from viz.paper import OwnRun, reward_against_risk, signal_against_control
from viz.pulls import pulls_by_row
from viz.spectra import all_spectra, module_spectrum, over_depth, ranking_stability
from viz.style import PALETTE, STANDINGS
from viz.training import training_curve

__all__ = [
    "PALETTE",
    "STANDINGS",
    "BudgetCurve",
    "ForestRow",
    "FrontAxis",
    "GuardPanel",
    "Heatmap",
    "OwnRun",
    "Pooled",
    "Stream",
    "TriedPoint",
    "alignment_heatmaps",
    "all_spectra",
    "budget_curves",
    "component_map",
    "dose_response",
    "effect_intervals",
    "forest",
    "gain_map",
    "gain_thumbnail",
    "module_spectrum",
    "outcome_flow",
    "over_depth",
    "own_against_guards",
    "protected_front",
    "pulls_by_row",
    "ranking_stability",
    "reward_against_risk",
    "search_front",
    "signal_against_control",
    "spectrum_before_and_after",
    "sweep_curve",
    "training_curve",
]
