"""Held-out effects with their intervals, one row a variant."""

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from viz.style import HARMFUL, HELPFUL, NEUTRAL, SERIES, as_text, figure, interval_bars, say_empty


# seven: a figure takes its columns one by one, named as they are drawn
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
            error_x=interval_bars([mean], [low], [high], thickness=2, width=5),
            customdata=[[low, high]],
            hovertemplate="%{y}: %{x:+.4f} [%{customdata[0]:+.4f}, %{customdata[1]:+.4f}]<extra></extra>",
            showlegend=False,
        )
    empty.add_vline(x=0, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    empty.update_yaxes(autorange="reversed", type="category", showgrid=False)
    return empty


Band = tuple[Sequence[float], Sequence[float], Sequence[float]]


def dose_response(doses: Sequence[float], edit: Band, scale: Band, *, title: str, unit: str) -> go.Figure:
    """Change along the strength of an edit, and of a plain scale of its size at each dose.

    Both bands are means, lower and upper ends of 95 % intervals, one for each dose.
    """
    empty = figure(title, height=300, x="strength λ", y=unit)
    if not doses:
        return say_empty(empty, "nothing was measured yet")
    drawn = (("edit", edit, SERIES[0], "solid"), ("plain scale of the same size", scale, SERIES[1], "dot"))
    for name, (means, lows, highs), ink, dash in drawn:
        empty.add_scatter(
            x=list(doses),
            y=list(means),
            mode="lines+markers",
            name=name,
            line={"color": ink, "width": 2, "dash": dash},
            marker={"size": 8},
            error_y=interval_bars(means, lows, highs),
            hovertemplate="λ %{x:g}: %{y:+.4f}<extra>" + name + "</extra>",
        )
    empty.add_hline(y=0, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    return empty


@dataclass(frozen=True)
class BudgetCurve:
    """What is expected of one policy's edit at each number of calibration examples, with 95 % bands.

    `first_order` is what the same examples promise that shaped the edit.
    """

    name: str
    examples: Sequence[int]
    expected: Band
    first_order: Sequence[float]


def budget_curves(curves: Sequence[BudgetCurve], *, title: str) -> go.Figure:
    """Expected change of the loss on held-out rows along the number of calibration examples, a curve a policy."""
    drawn = figure(title, height=360, x="calibration examples", y="expected Δ loss, nats per answer token")
    curves = [curve for curve in curves if curve.examples]
    if not curves:
        return say_empty(drawn, "too few examples were measured")
    for ink, curve in zip(SERIES, curves, strict=False):
        means, lows, highs = curve.expected
        name, x = as_text(curve.name), list(curve.examples)
        drawn.add_scatter(
            x=x,
            y=list(means),
            mode="lines+markers",
            name=name,
            line={"color": ink, "width": 2},
            marker={"size": 8},
            error_y=interval_bars(means, lows, highs),
            hovertemplate="%{x} examples: %{y:+.4f}<extra>" + name + "</extra>",
        )
        drawn.add_scatter(
            x=x,
            y=list(curve.first_order),
            mode="lines",
            name=f"{name}, first order on the same rows",
            line={"color": ink, "width": 1, "dash": "dot"},
            hovertemplate="%{x} examples: %{y:+.4f}<extra>first order</extra>",
        )
    ticks = sorted({count for curve in curves for count in curve.examples})
    drawn.update_xaxes(type="log", tickvals=ticks, ticktext=[str(tick) for tick in ticks])
    drawn.add_hline(y=0, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    return drawn


# seven: a figure takes its columns one by one, named as they are drawn
def sweep_curve(
    values: Sequence[float],
    means: Sequence[float],
    lows: Sequence[float],
    highs: Sequence[float],
    predicted: Sequence[float | None],
    *,
    title: str,
    knob: str,
) -> go.Figure:
    """Measured change of the loss along one knob with 95 % intervals, beside the first-order prediction."""
    empty = figure(title, height=300, x=knob, y="Δ loss, nats")
    if not values:
        return say_empty(empty, "nothing was measured yet")
    inks = [
        NEUTRAL if low <= 0 <= high else HELPFUL if high < 0 else HARMFUL
        for low, high in zip(lows, highs, strict=True)
    ]
    empty.add_scatter(
        x=list(values),
        y=list(means),
        mode="lines+markers",
        name="measured, tuning rows",
        line={"color": NEUTRAL, "width": 1},
        marker={"size": 9, "color": inks},
        error_y=interval_bars(means, lows, highs),
        hovertemplate="%{x:g}: %{y:+.4f}<extra>measured</extra>",
    )
    known = [(x, y) for x, y in zip(values, predicted, strict=True) if y is not None]
    if known:
        empty.add_scatter(
            x=[x for x, _ in known],
            y=[y for _, y in known],
            mode="lines",
            name="predicted, calibration rows",
            line={"color": SERIES[0], "dash": "dot"},
            hovertemplate="%{x:g}: %{y:+.4f}<extra>predicted</extra>",
        )
    empty.add_hline(y=0, line={"color": NEUTRAL, "width": 1, "dash": "dash"})
    return empty
