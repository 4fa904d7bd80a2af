"""Whom an edit is expected to help and to hurt: a bar a row, from the most helped to the most hurt."""

from collections.abc import Sequence

import plotly.graph_objects as go

from viz.style import AFTER, HARMFUL, HELPFUL, NEUTRAL, figure, say_empty

MEASURED = "measured, of the edit itself"


def pulls_by_row(told: Sequence[float], measured: Sequence[float | None], *, title: str, name: str) -> go.Figure:
    """Expected change of the loss of each row, and what was measured of some.

    told: in ascending order, in nats per answer token.
    measured: of the same rows; None where nothing was measured.
    title: of the figure.
    name: of what is told.
    """
    drawn = figure(
        title, height=260, x="rows, from the most helped to the most hurt", y="Δ loss, nats per answer token"
    )
    if not told:
        return say_empty(drawn, "no row was measured")
    drawn.add_bar(
        x=list(range(1, len(told) + 1)),
        y=list(told),
        name=name,
        marker={
            "color": [HELPFUL if each < 0 else HARMFUL if each > 0 else NEUTRAL for each in told],
            "line_width": 0,
        },
        hovertemplate="%{y:+.4f}<extra>" + name + "</extra>",
        showlegend=False,
    )
    known = [(at, each) for at, each in enumerate(measured, start=1) if each is not None]
    if known:
        drawn.add_scatter(
            x=[at for at, _ in known],
            y=[each for _, each in known],
            mode="markers",
            name=MEASURED,
            marker={"size": 6, "color": AFTER},
            hovertemplate="%{y:+.4f}<extra>" + MEASURED + "</extra>",
        )
    drawn.update_layout(bargap=0.1)
    drawn.update_xaxes(range=[0.5, len(told) + 0.5])
    return drawn
