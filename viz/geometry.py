"""Alignment of subspaces as interactive heatmaps (paper Figure 1, appendix B), and directions of a base weight."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64
from numpy import ndarray
from plotly.subplots import make_subplots

from viz.style import SHARE_SCALE, as_text, figure, say_empty

_SIDE = 600


@dataclass(frozen=True)
class Heatmap:
    """Alignments in [0, 1], NaN where there is none.

    `reference` is the random expectation of each row, `cut` the value from which colours are the last one's.
    """

    values: Float64[ndarray, "row column"]
    rows: Sequence[str]
    columns: Sequence[str]
    title: str
    measure: str
    reference: Float64[ndarray, " row"]
    cut: float


def alignment_heatmaps(maps: Sequence[Heatmap]) -> go.Figure:
    """One map, or several in two rows, column after column; hover tells the ratio to the random reference."""
    maps = [each for each in maps if each.values.size]
    if not maps:
        return say_empty(figure("Alignment", height=_SIDE), "no pair of modules to compare")
    if len(maps) == 1:
        drawn = figure(maps[0].title, height=_SIDE)
        drawn.add_trace(_trace(maps[0], "coloraxis"))
        drawn.update_layout(coloraxis=_colours(maps[0], 1.0))
        drawn.update_xaxes(showgrid=False, type="category", constrain="domain", nticks=16)
        drawn.update_yaxes(showgrid=False, type="category", autorange="reversed", scaleanchor="x", nticks=16)
        return drawn
    across = -(-len(maps) // 2)
    places = [(n % 2 + 1, n // 2 + 1) for n in range(len(maps))]
    titles = [""] * (2 * across)
    for (row, column), each in zip(places, maps, strict=True):
        titles[(row - 1) * across + column - 1] = as_text(each.title)
    drawn = make_subplots(
        rows=2, cols=across, subplot_titles=titles, horizontal_spacing=0.02, vertical_spacing=0.08
    )
    drawn.update_layout(height=560, width=max(900, 230 * across), margin={"l": 8, "r": 8, "t": 46, "b": 8})
    for n, ((row, column), each) in enumerate(zip(places, maps, strict=True), start=1):
        drawn.add_trace(_trace(each, f"coloraxis{n}"), row=row, col=column)
        drawn.update_layout({f"coloraxis{n}": _colours(each, None)})
    drawn.update_xaxes(showticklabels=False, type="category")
    drawn.update_yaxes(showticklabels=False, type="category", autorange="reversed")
    return drawn


def component_map(
    values: Float64[ndarray, "row component"], rows: Sequence[str], *, title: str, measure: str, reference: float
) -> go.Figure:
    """One number in [0, 1] for every component of every row, NaN where there is none."""
    empty = figure(title, height=max(260, 70 + 15 * len(rows)), x="component, by falling σ", y="layer")
    if values.size == 0:
        return say_empty(empty, "no module to show")
    top = float(np.nanmax(values)) if np.isfinite(values).any() else 1.0
    drawn = empty.add_heatmap(
        z=values,
        y=[as_text(row) for row in rows],
        customdata=values / reference,
        zmin=0.0,
        zmax=max(top, 4 * reference),
        colorscale=SHARE_SCALE,
        colorbar={"title": {"text": measure, "side": "right"}, "thickness": 12, "outlinewidth": 0},
        hovertemplate=f"%{{y}}, component %{{x}}<br>{measure} %{{z:.3f}}<br>%{{customdata:.1f}} × random<extra></extra>",
    )
    drawn.update_xaxes(showgrid=False)
    drawn.update_yaxes(showgrid=False, type="category", autorange="reversed", nticks=16)
    return drawn


def _trace(each: Heatmap, axis: str) -> go.Heatmap:
    return go.Heatmap(
        z=each.values,
        x=[as_text(column) for column in each.columns],
        y=[as_text(row) for row in each.rows],
        customdata=each.values / each.reference[:, np.newaxis],
        coloraxis=axis,
        hovertemplate=f"%{{y}} · %{{x}}<br>{each.measure} %{{z:.3f}}<br>%{{customdata:.1f}} × random<extra></extra>",
    )


def _colours(each: Heatmap, bar: float | None) -> dict[str, object]:
    scale = {"cmin": 0.0, "cmax": each.cut, "colorscale": SHARE_SCALE, "showscale": bar is not None}
    if bar is not None:
        scale["colorbar"] = {"title": {"text": each.measure, "side": "right"}, "thickness": 12, "outlinewidth": 0}
    return scale
