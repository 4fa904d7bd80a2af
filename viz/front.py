"""What a protected edit is expected to gain on its own slice against what it costs a protected one."""

from collections.abc import Sequence

import plotly.graph_objects as go

from viz.style import NEUTRAL, SERIES, figure, say_empty

Band = tuple[float, float, float]


def protected_front(
    names: Sequence[str], target: Sequence[Band], protected: Sequence[Band], *, title: str, chosen: str = ""
) -> go.Figure:
    """One point for each edit of a front, with its 95 % bands; left is a better edit, down a spared slice.

    names: of the points, in the order in which the front is drawn.
    target: expected change of the loss on the edit's own slice and the ends of its band, in nats per answer token.
    protected: the same on the protected slice.
    chosen: the name of the present edit, drawn larger.
    """
    drawn = figure(title, height=340, x="expected Δ loss, own slice, nats", y="expected Δ loss, protected, nats")
    if not names:
        return say_empty(drawn, "no slice is protected yet")
    (x, x_low, x_high), (y, y_low, y_high) = (tuple(zip(*bands, strict=True)) for bands in (target, protected))
    drawn.add_scatter(
        x=list(x),
        y=list(y),
        text=list(names),
        customdata=list(names),
        mode="lines+markers+text",
        textposition="top center",
        line={"color": NEUTRAL, "width": 1},
        marker={"size": [14 if name == chosen else 9 for name in names], "color": SERIES[0]},
        error_x=_bars(x, x_low, x_high),
        error_y=_bars(y, y_low, y_high),
        hovertemplate="%{text}: own %{x:+.4f}, protected %{y:+.4f}<extra></extra>",
        showlegend=False,
    )
    drawn.add_hline(y=0, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    return drawn


def _bars(middle: Sequence[float], low: Sequence[float], high: Sequence[float]) -> dict[str, object]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [top - mean for top, mean in zip(high, middle, strict=True)],
        "arrayminus": [mean - bottom for bottom, mean in zip(low, middle, strict=True)],
        "thickness": 1,
        "color": NEUTRAL,
    }
