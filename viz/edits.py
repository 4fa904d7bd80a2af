"""An edit at rest: its gains as a map of each family, and the spectrum of one module before and after."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64
from numpy import ndarray

from viz.style import AFTER, BEFORE, GAIN_OCTAVES, GAIN_SCALE, as_text, figure, say_empty

_TICKS = {-2: "¼", -1: "½", 0: "1", 1: "2", 2: "4"}  # gains at whole octaves
_ROW, _MOST = 9, 620  # pixels of a module, and of a map


def gain_map(
    modules: Sequence[str],
    rows: Sequence[str],
    sigma: Float64[ndarray, "module rank"],
    after: Float64[ndarray, "module rank"],
    *,
    title: str,
) -> go.Figure:
    """Gains σ′/σ of a family, modules × components, coloured by their octaves.

    modules: names for the hand that rests on a row.
    rows: what the axis says of each row, such as its layer.
    sigma, after: σ and σ′; NaN where a module has no such component, and no gain is drawn where σ is 0.
    """
    height = 104 + max(72, min(_MOST, _ROW * len(rows)))
    empty = figure(title, height=height, x="component", y="layer")
    if not len(modules):
        return say_empty(empty, "no module was edited")
    gains = np.full(sigma.shape, np.nan)
    np.divide(after, sigma, out=gains, where=sigma > 0)
    with np.errstate(divide="ignore"):
        octaves = np.clip(np.log2(gains), -GAIN_OCTAVES, GAIN_OCTAVES)
    names = np.repeat(np.array([as_text(name) for name in modules], dtype=object)[:, None], sigma.shape[1], 1)
    empty.add_heatmap(
        z=octaves,
        customdata=np.stack([names, sigma, after, gains], axis=-1),
        zmin=-GAIN_OCTAVES,
        zmax=GAIN_OCTAVES,
        colorscale=[list(stop) for stop in GAIN_SCALE],
        xgap=1,
        ygap=1 if height < _MOST else 0,
        hoverongaps=False,
        hovertemplate="%{customdata[0]}, component %{x}<br>σ %{customdata[1]:.4g} → %{customdata[2]:.4g}, "
        "gain %{customdata[3]:.4g}<extra></extra>",
        colorbar={
            "title": {"text": "gain"},
            "thickness": 10,
            "tickvals": list(_TICKS),
            "ticktext": list(_TICKS.values()),
        },
    )
    step = max(1, len(rows) // 12)
    empty.update_yaxes(
        autorange="reversed", tickvals=list(range(0, len(rows), step)), ticktext=[as_text(r) for r in rows[::step]]
    )
    empty.update_xaxes(showgrid=False)
    return empty


def spectrum_before_and_after(
    sigma: Float64[ndarray, " rank"], after: Float64[ndarray, " rank"], *, title: str
) -> go.Figure:
    """σ and σ′ of one module, a pair of bars for each component."""
    empty = figure(title, height=300, x="component", y="σ")
    for name, values, ink in (("σ, before", sigma, BEFORE), ("σ′, after", after, AFTER)):
        empty.add_bar(
            x=np.arange(values.size),
            y=values,
            name=name,
            marker={"color": ink, "line": {"width": 0}},
            hovertemplate="component %{x}: %{y:.4g}<extra>" + name + "</extra>",
        )
    # above the bars: below them it would lie on the axis' title where the figure is narrow
    legend = {"y": 1.0, "yanchor": "bottom", "x": 0.0, "xanchor": "left"}
    empty.update_layout(barmode="group", bargap=0.25, legend=legend, margin={"t": 72})
    return empty
