"""Held-out effects with their intervals, one row a variant."""

from collections.abc import Sequence

import plotly.graph_objects as go

from viz.style import HARMFUL, HELPFUL, NEUTRAL, as_text, figure, say_empty


def effect_intervals(
    names: Sequence[str],
    means: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    *,
    title: str,
    unit: str,
    lower_is_better: bool,
) -> go.Figure:
    """Mean change and 95 % interval of each variant around zero.

    An interval that holds zero is grey, whatever its mean: that effect is within noise.
    """
    empty = figure(title, height=110 + 34 * max(1, len(names)), x=unit)
    if not names:
        return say_empty(empty, "nothing was compared yet")
    for name, mean, low, high in zip(names, means, lows, highs, strict=True):
        better = mean < 0 if lower_is_better else mean > 0
        certain = low > 0 or high < 0
        empty.add_scatter(
            x=[mean],
            y=[as_text(name)],
            mode="markers",
            marker={"size": 10, "color": (HELPFUL if better else HARMFUL) if certain else NEUTRAL},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [high - mean],
                "arrayminus": [mean - low],
                "thickness": 2,
                "width": 5,
            },
            customdata=[[low, high]],
            hovertemplate="%{y}: %{x:+.4f} [%{customdata[0]:+.4f}, %{customdata[1]:+.4f}]<extra></extra>",
            showlegend=False,
        )
    empty.add_vline(x=0, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    empty.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return empty
