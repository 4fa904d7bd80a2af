"""A forest plot: one change with its interval for each of several adapters, and their mean below."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from viz.style import HARMFUL, HELPFUL, NEUTRAL, as_text, figure, interval_bars, say_empty

# code, words, colour, plotly's symbol: what tells the marks apart without colour
_VERDICTS = (
    ("win", "win", HELPFUL, "circle"),
    ("tie", "tie: within noise", NEUTRAL, "circle-open"),
    ("loss", "loss", HARMFUL, "x"),
)
_ROW, _AROUND, _LEGEND = 26, 170, 62  # pixels: a line, what is above and below the lines, down to the legend


@dataclass(frozen=True)
class ForestRow:
    """One line: a mean with its 95 % interval, NaN where there is none.

    `verdict` is `win`, `tie` or `loss`, `told` stands in the hover text, `key` is what a click gives.
    """

    name: str
    mean: float
    low: float
    high: float
    verdict: str
    told: str = ""
    key: str = ""


@dataclass(frozen=True)
class Pooled:
    """The mean over all lines: the bootstrap's interval, Student's, and whether it is a win, a tie or a loss."""

    name: str
    mean: float
    interval: tuple[float, float]
    student: tuple[float, float]
    verdict: str


def forest(rows: Sequence[ForestRow], pooled: Pooled | None, *, title: str, unit: str) -> go.Figure:
    """Each line's change around zero, and below a diamond with the mean over all of them, whose interval is shaded."""
    drawn = figure(title, height=_AROUND + _ROW * (len(rows) + 2), x=unit)
    if not rows or pooled is None:
        return say_empty(drawn, "no adapter has answered yet")
    for code, words, colour, symbol in _VERDICTS:
        mine = [row for row in rows if row.verdict == code]
        drawn.add_scatter(
            x=[row.mean for row in mine],
            y=[as_text(row.name) for row in mine],
            mode="markers",
            name=words,
            marker={"size": 11, "color": colour, "symbol": symbol, "line": {"width": 2, "color": colour}},
            error_x=_bars([(row.mean, row.low, row.high) for row in mine], color=colour, thickness=2, width=5),
            customdata=[[row.key, row.low, row.high, as_text(row.told)] for row in mine],
            hovertemplate="%{y}: %{x:+.4f} [%{customdata[1]:+.4f}, %{customdata[2]:+.4f}]<br>%{customdata[3]}"
            "<extra>click to open its run</extra>",
        )
    _draw_pooled(drawn, pooled)
    drawn.add_vline(x=0, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    names = [as_text(row.name) for row in rows]
    order = [*names, *dict.fromkeys(each for each in _pooled_names(pooled) if each not in names)]
    drawn.update_yaxes(
        type="category", categoryorder="array", categoryarray=order, autorange="reversed", showgrid=False
    )
    drawn.update_layout(
        legend={"y": -_LEGEND / (drawn.layout.height - _AROUND), "itemclick": False, "itemdoubleclick": False}
    )
    return drawn


def _pooled_names(pooled: Pooled) -> tuple[str, str]:
    return as_text(pooled.name), "Student's interval"


def _draw_pooled(drawn: go.Figure, pooled: Pooled) -> None:
    colour = next(colour for code, _, colour, _ in _VERDICTS if code == pooled.verdict)
    first, second = _pooled_names(pooled)
    for name, (low, high), symbol in (
        (first, pooled.interval, "diamond"),
        (second, pooled.student, "diamond-open"),
    ):
        if name == second and low != low:
            continue
        drawn.add_scatter(
            x=[pooled.mean],
            y=[name],
            mode="markers",
            showlegend=False,
            marker={"size": 14, "color": colour, "symbol": symbol, "line": {"width": 2, "color": colour}},
            error_x=_bars([(pooled.mean, low, high)], color=colour, thickness=3, width=7),
            customdata=[["", low, high, ""]],
            hovertemplate="%{y}: %{x:+.4f} [%{customdata[1]:+.4f}, %{customdata[2]:+.4f}]<extra></extra>",
        )
    low, high = pooled.interval
    if low == low:
        drawn.add_vrect(x0=low, x1=high, fillcolor=colour, opacity=0.1, line_width=0, layer="below")


def _bars(lines: Sequence[tuple[float, float, float]], **look: object) -> dict[str, object]:
    """Bars for lines that have an interval; none where it is not known."""
    means = [mean for mean, _, _ in lines]
    lows, highs = (
        [mean if end != end else end for mean, end in zip(means, each, strict=True)]
        for each in ([low for _, low, _ in lines], [high for _, _, high in lines])
    )
    return interval_bars(means, lows, highs, **look)
