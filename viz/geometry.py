"""Alignment of subspaces: heatmaps of pairs and curves over depth (paper Figure 1, appendix B)."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64
from numpy import ndarray

from viz.style import AFTER, NEUTRAL, SHARE_SCALE, as_text, figure, say_empty


def alignment_heatmap(
    values: Float64[ndarray, "row column"],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    measure: str,
    reference: float,
    x: str = "layer",
    y: str = "layer",
) -> go.Figure:
    """A square map of alignments in [0, 1]; hover tells the ratio to the random reference."""
    empty = figure(title, height=600, x=x, y=y)
    if values.size == 0:
        return say_empty(empty, "no pair of modules to compare")
    drawn = empty.add_heatmap(
        z=values,
        x=[as_text(column) for column in columns],
        y=[as_text(row) for row in rows],
        customdata=values / reference,
        zmin=0.0,
        zmax=max(_top_off_diagonal(values, rows, columns), 4 * reference),
        colorscale=SHARE_SCALE,
        colorbar={"title": {"text": measure, "side": "right"}, "thickness": 12, "outlinewidth": 0},
        hovertemplate=f"{y} %{{y}} · {x} %{{x}}<br>{measure} %{{z:.3f}}<br>%{{customdata:.1f}} × random<extra></extra>",
    )
    drawn.update_xaxes(showgrid=False, type="category", constrain="domain", constraintoward="right", nticks=16)
    drawn.update_yaxes(
        showgrid=False, type="category", autorange="reversed", scaleanchor="x", constrain="domain", nticks=16
    )
    return drawn


def depth_curve(
    layers: Sequence[int],
    values: Float64[ndarray, "layer"],
    *,
    title: str,
    measure: str,
    reference: float,
) -> go.Figure:
    """One alignment a layer over depth, with the random reference as a dashed line."""
    empty = figure(title, height=300, x="layer", y=measure)
    if len(layers) == 0:
        return say_empty(empty, "no layer has both modules")
    empty.add_scatter(
        x=list(layers),
        y=values,
        mode="lines+markers",
        line={"color": AFTER, "width": 2},
        hovertemplate="layer %{x}<br>%{y:.3f}<extra></extra>",
        showlegend=False,
    )
    empty.add_hline(
        y=reference,
        line={"color": NEUTRAL, "dash": "dash", "width": 1.5},
        annotation_text=f"random {reference:.4f}",
        annotation_position="top right",
    )
    empty.update_yaxes(rangemode="tozero")
    return empty


def _top_off_diagonal(
    values: Float64[ndarray, "row column"], rows: Sequence[str], columns: Sequence[str]
) -> float:
    """The largest value between different modules: a module against itself is 1 and tells nothing."""
    other = np.array([[row != column for column in columns] for row in rows])
    return float(values[other].max()) if other.any() else 1.0
