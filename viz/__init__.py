"""Figures: plain arrays and labels in, a plotly Figure out. Knows neither the app nor the method."""

from viz.effects import effect_intervals, sweep_curve
from viz.gains import gain_thumbnail
from viz.geometry import alignment_heatmap, depth_curve
from viz.spectra import module_spectrum, rank_profile

__all__ = [
    "alignment_heatmap",
    "depth_curve",
    "effect_intervals",
    "gain_thumbnail",
    "module_spectrum",
    "rank_profile",
    "sweep_curve",
]
