"""What an edit does: gains of all modules on one map, and one spectrum before and after."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64, UInt8
from numpy import ndarray

from viz.style import AFTER, BEFORE, GAIN_SCALE, as_text, figure, say_empty


def gain_map(gains: Float64[ndarray, "module rank"], labels: Sequence[str], *, title: str) -> go.Figure:
    """Gains of one family, a row for each module; NaN where a module has fewer components.

    The colour is log₂ of the gain, white at 1, cut at a quarter and at four times.
    """
    empty = figure(title, height=max(260, 90 + 13 * len(labels)), x="component", y="layer")
    if gains.size == 0:
        return say_empty(empty, "no module of this family is in scope")
    with np.errstate(divide="ignore"):
        colour = np.clip(np.log2(gains), -2, 2)
    empty.add_heatmap(
        z=colour,
        y=[as_text(label) for label in labels],
        customdata=gains,
        zmin=-2,
        zmax=2,
        colorscale=GAIN_SCALE,
        colorbar={
            "title": {"text": "gain", "side": "right"},
            "tickvals": [-2, -1, 0, 1, 2],
            "ticktext": ["¼", "½", "1", "2", "4"],
            "thickness": 12,
            "outlinewidth": 0,
        },
        hovertemplate="layer %{y} · component %{x}<br>gain %{customdata:.3f}<extra></extra>",
        xgap=1,
        ygap=1,
    )
    empty.update_xaxes(showgrid=False, dtick=1 if gains.shape[1] <= 16 else None)
    empty.update_yaxes(showgrid=False, type="category", autorange="reversed", nticks=16)
    return empty


def before_and_after(
    before: Float64[ndarray, "rank"], after: Float64[ndarray, "rank"], *, title: str
) -> go.Figure:
    """σ and σ′ of one module side by side."""
    drawn = figure(title, height=300, x="component, by falling σ", y="singular value", barmode="group")
    components = list(range(before.size))
    for name, values, colour in (("σ", before, BEFORE), ("σ′", after, AFTER)):
        drawn.add_bar(
            x=components,
            y=values,
            name=name,
            marker_color=colour,
            hovertemplate=f"component %{{x}}<br>{name} %{{y:.4g}}<extra></extra>",
        )
    drawn.update_xaxes(dtick=1 if before.size <= 32 else None)
    drawn.update_layout(bargap=0.25)
    return drawn


def gain_thumbnail(gains: Float64[ndarray, "module rank"]) -> UInt8[ndarray, "height width 3"]:
    """The same map as a small picture in the same colours; cells without a component are grey."""
    stops = np.array([position for position, _ in GAIN_SCALE])
    inks = np.array([[int(ink[i : i + 2], 16) for i in (1, 3, 5)] for _, ink in GAIN_SCALE])
    with np.errstate(divide="ignore"):
        at = (np.clip(np.log2(gains), -2, 2) + 2) / 4
    picture: ndarray = np.stack([np.interp(at, stops, inks[:, channel]) for channel in range(3)], axis=-1)
    picture[np.isnan(gains)] = 128
    rows, columns = max(1, 120 // max(len(gains), 1)), max(1, 240 // max(gains.shape[1], 1))
    small: ndarray = np.rint(picture).astype(np.uint8)
    return small.repeat(rows, axis=0).repeat(columns, axis=1)
