"""Reward against risk of a proof with guards: what edits gain on their own task, and what they cost on others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from viz.style import CHOSEN, NEUTRAL, SERIES, as_text, figure, interval_bars, say_empty

Band = tuple[float, float, float]
_ACROSS = 3
_HEIGHT = 330
# how each kind of variant is drawn: colour, size, symbol
_KINDS = {
    "edit": (CHOSEN, 12, "circle"),
    "other edit": (SERIES[0], 10, "circle"),
    "control": (NEUTRAL, 7, "circle-open"),
}


@dataclass(frozen=True)
class GuardPanel:
    """One guard by one metric: what each variant costs there, by name, with the ends of its 95 % interval."""

    title: str
    unit: str
    costs: Mapping[str, Band]


def own_against_guards(
    gains: Mapping[str, Band],
    kinds: Mapping[str, str],
    panels: Sequence[GuardPanel],
    *,
    title: str,
    unit: str,
) -> go.Figure:
    """A panel for each guard: gain on the own task (up is better) against the cost there (right is worse).

    gains: mean and ends of the 95 % interval of each variant, by name.
    kinds: of the variants: `edit`, `other edit` or `control`.

    The unedited adapter is the cross of the lines at 0. A point whose bars cross a line does nothing beyond noise there.
    """
    if not gains or not panels:
        return say_empty(figure(title, height=_HEIGHT), "no guard was asked yet")
    across = min(_ACROSS, len(panels))
    down = -(-len(panels) // across)
    drawn = make_subplots(
        rows=down,
        cols=across,
        shared_yaxes=True,
        subplot_titles=[as_text(panel.title) for panel in panels],
        horizontal_spacing=0.06,
        vertical_spacing=0.28 / down,
        figure=figure(title, height=_HEIGHT * down + 30),
    )
    told: set[str] = set()
    for place, panel in enumerate(panels):
        row, column = place // across + 1, place % across + 1
        for kind in _KINDS:
            names = [name for name in gains if kinds.get(name) == kind and name in panel.costs]
            if names:
                points = _points(names, gains, panel, kind, first=kind not in told)
                drawn.add_trace(points, row=row, col=column)
                told.add(kind)
        drawn.update_xaxes(title_text=f"cost, {panel.unit}", automargin=True, zeroline=False, row=row, col=column)
        drawn.update_yaxes(automargin=True, zeroline=False, row=row, col=column)
    drawn.update_yaxes(title_text=f"gain, {unit}", col=1)
    drawn.add_hline(y=0, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    drawn.add_vline(x=0, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    drawn.update_annotations(font={"size": 12})
    drawn.update_layout(margin={"l": 8, "r": 8, "t": 84, "b": 8}, legend={"y": -0.3 / down})
    return drawn


def _points(
    names: Sequence[str], gains: Mapping[str, Band], panel: GuardPanel, kind: str, *, first: bool
) -> go.Scatter:
    colour, size, symbol = _KINDS[kind]
    costs, own = [panel.costs[name] for name in names], [gains[name] for name in names]
    return go.Scatter(
        x=[mean for mean, _, _ in costs],
        y=[mean for mean, _, _ in own],
        mode="markers",
        name=kind,
        legendgroup=kind,
        showlegend=first,
        text=[as_text(name) for name in names],
        customdata=[[*one[1:], *other[1:]] for one, other in zip(costs, own, strict=True)],
        marker={"size": size, "color": colour, "symbol": symbol},
        error_x=_bars(costs, colour),
        error_y=_bars(own, colour),
        hovertemplate="%{text}<br>cost %{x:+.4g} [%{customdata[0]:+.4g}, %{customdata[1]:+.4g}]<br>"
        "gain %{y:+.4g} [%{customdata[2]:+.4g}, %{customdata[3]:+.4g}]<extra></extra>",
    )


def _bars(bands: Sequence[Band], colour: str) -> dict[str, object]:
    return interval_bars(*zip(*bands, strict=True), thickness=1, width=3, color=colour)
