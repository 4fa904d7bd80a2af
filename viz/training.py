"""Losses while something is trained, epoch by epoch."""

from collections.abc import Sequence

import plotly.graph_objects as go

from viz.style import NEUTRAL, SERIES, figure, say_empty


def training_curve(calibration: Sequence[float], tuning: Sequence[float], chosen: int, *, title: str) -> go.Figure:
    """Mean losses in nats per answer token along the epochs, and the epoch that was chosen.

    calibration: during each epoch, from the first on.
    tuning: before the first epoch and after each.
    chosen: an epoch, counted from 1; 0 is before the first.
    """
    drawn = figure(title, height=260, x="epoch", y="loss, nats")
    if not tuning:
        return say_empty(drawn, "nothing was trained yet")
    lines = (
        ("tuning rows", 0, tuning, SERIES[0], "solid"),
        ("calibration rows", 1, calibration, SERIES[1], "dot"),
    )
    for name, first, losses, ink, dash in lines:
        drawn.add_scatter(
            x=list(range(first, first + len(losses))),
            y=list(losses),
            mode="lines+markers",
            name=name,
            line={"color": ink, "width": 2, "dash": dash},
            marker={"size": 7},
            hovertemplate="epoch %{x}: %{y:.4f}<extra>" + name + "</extra>",
        )
    drawn.add_vline(x=chosen, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    return drawn
