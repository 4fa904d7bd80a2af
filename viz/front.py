"""Fronts: what one edit gains in one thing against what it costs in another."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from viz.style import BEFORE, CHOSEN, NEUTRAL, SERIES, as_text, figure, interval_bars, say_empty

Band = tuple[float, float, float]
_THIN = {"thickness": 1, "color": NEUTRAL}


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
        error_x=interval_bars(x, x_low, x_high, **_THIN),
        error_y=interval_bars(y, y_low, y_high, **_THIN),
        hovertemplate="%{text}: own %{x:+.4f}, protected %{y:+.4f}<extra></extra>",
        showlegend=False,
    )
    drawn.add_hline(y=0, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    return drawn


@dataclass(frozen=True)
class TriedPoint:
    """An edit that a search tried.

    name: as tables call it.
    place: means on both axes with the ends of their 95 % intervals.
    on_front: whether nothing dominates it.
    finished: whether it was measured on all rows; else its means are those of the first of them.
    noise: whether neither interval excludes zero.
    """

    name: str
    place: tuple[Band, Band]
    on_front: bool
    finished: bool = True
    noise: bool = False


@dataclass(frozen=True)
class FrontAxis:
    """An axis of a front; `unedited` is where the unedited adapter stands on it, None where it stands nowhere."""

    title: str
    higher_is_better: bool = False
    unedited: float | None = 0.0


def search_front(
    points: Sequence[TriedPoint],
    x: FrontAxis,
    y: FrontAxis,
    *,
    title: str,
    chosen: str = "",
    joined: bool = True,
) -> go.Figure:
    """The trials of a search; those that nothing dominates stand out.

    points: of the trials, in any order.
    chosen: the name of the trial that is looked at, drawn larger.
    joined: whether the front is joined by the border of what it dominates; of more than two objectives it has none here.
    """
    drawn = figure(title, height=380, x=_towards(x, "←", "→"), y=_towards(y, "↓", "↑"))
    if not points:
        return say_empty(drawn, "no trial has ended yet")
    kinds = (
        ("stopped early, first rows only", [p for p in points if not p.finished], NEUTRAL, "x-thin"),
        ("dominated", [p for p in points if p.finished and not p.on_front], NEUTRAL, "circle"),
        ("front", sorted((p for p in points if p.on_front), key=lambda p: p.place[0][0]), SERIES[0], "circle"),
    )
    for name, members, ink, symbol in kinds:
        if members:
            _draw_tried(drawn, name, members, ink, symbol, chosen)
    if joined:
        drawn.update_traces(
            mode="lines+markers",
            line={"color": SERIES[0], "width": 1, "shape": "vh" if x.higher_is_better else "hv", "dash": "dot"},
            selector={"name": "front"},
        )
    if x.unedited is not None and y.unedited is not None:
        drawn.add_scatter(
            x=[x.unedited],
            y=[y.unedited],
            mode="markers",
            name="unedited adapter",
            marker={"size": 13, "color": BEFORE, "symbol": "diamond"},
            hovertemplate="unedited adapter<extra></extra>",
        )
    return drawn


def _draw_tried(
    drawn: go.Figure, name: str, points: Sequence[TriedPoint], ink: str, symbol: str, chosen: str
) -> None:
    front = name == "front"
    (x, x_low, x_high), (y, y_low, y_high) = (
        tuple(zip(*(point.place[axis] for point in points), strict=True)) for axis in (0, 1)
    )
    edge = [CHOSEN if point.name == chosen else ink for point in points]
    drawn.add_scatter(
        x=list(x),
        y=list(y),
        customdata=[point.name for point in points],
        text=[as_text(f"{p.name}{', within noise' if p.noise else ''}") for p in points],
        name=name,
        mode="markers",
        opacity=1.0 if front else 0.6,
        marker={
            "size": [15 if point.name == chosen else 10 if front else 7 for point in points],
            "color": edge,
            "symbol": [f"{symbol}-open" if point.noise else symbol for point in points],
            "line": {"color": edge, "width": 2 if symbol.startswith("x") else 1},
        },
        error_x=interval_bars(x, x_low, x_high, **_THIN) if front else None,
        error_y=interval_bars(y, y_low, y_high, **_THIN) if front else None,
        hovertemplate="%{text}: %{x:+.4g}, %{y:+.4g}<extra>" + name + "</extra>",
    )


def _towards(axis: FrontAxis, less: str, more: str) -> str:
    """The title of an axis with the way to the better end; a mere count has no such end."""
    return (
        axis.title if axis.unedited is None else f"{axis.title} ({more if axis.higher_is_better else less} better)"
    )
