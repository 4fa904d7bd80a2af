"""Figures: plain arrays and labels in, a plotly Figure out. Knows neither the app nor the method."""

from viz.effects import BudgetCurve, budget_curves, dose_response, effect_intervals, sweep_curve
from viz.flow import Stream, outcome_flow
from viz.front import protected_front
from viz.gains import gain_thumbnail
from viz.geometry import Heatmap, alignment_heatmaps, component_map
from viz.paper import OwnRun, reward_against_risk, signal_against_control
from viz.spectra import all_spectra, module_spectrum, over_depth, ranking_stability
from viz.style import PALETTE, STANDINGS

__all__ = [
    "PALETTE",
    "STANDINGS",
    "BudgetCurve",
    "Heatmap",
    "OwnRun",
    "Stream",
    "alignment_heatmaps",
    "all_spectra",
    "budget_curves",
    "component_map",
    "dose_response",
    "effect_intervals",
    "gain_thumbnail",
    "module_spectrum",
    "outcome_flow",
    "over_depth",
    "protected_front",
    "ranking_stability",
    "reward_against_risk",
    "signal_against_control",
    "sweep_curve",
]
