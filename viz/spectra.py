"""Spectra with their sensitivities, profiles over depth, and how stable rankings are."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64, Int
from numpy import ndarray
from plotly.subplots import make_subplots

from viz.style import AFTER, HARMFUL, HELPFUL, NEUTRAL, SERIES, as_text, figure, say_empty

# what raising a component does to the loss: code, name, colour, and a mark that needs no colour
STANDINGS = (
    (-1, "helps", HELPFUL, ""),
    (0, "neutral within noise", NEUTRAL, ""),
    (1, "hurts", HARMFUL, "/"),
)
_UNKNOWN = ("not measured", AFTER, "")
# none that stands for a standing
_CURVES = (AFTER, "#2f9fc4", SERIES[2], "#a5673f", SERIES[4], SERIES[5], SERIES[6])
_DASHES = ("solid", "dash", "dot", "dashdot")
_BAR = 0.75


# ten: a figure takes its columns one by one, named as they are drawn
def module_spectrum(
    sigma: Float64[ndarray, "rank"],
    energy: Float64[ndarray, "rank"],
    *,
    title: str,
    standing: Int[ndarray, "rank"] | None = None,
    mean: Float64[ndarray, "rank"] | None = None,
    mean_error: Float64[ndarray, "rank"] | None = None,
    agreement: Float64[ndarray, "rank"] | None = None,
    magnitude: Float64[ndarray, "rank"] | None = None,
    magnitude_error: Float64[ndarray, "rank"] | None = None,
    log: bool = False,
) -> go.Figure:
    """σ per component with the cumulative share of energy; below, where measured, g, its sign agreement and |g|."""
    measured = mean is not None
    rows = 4 if measured else 1
    specs = [[{"secondary_y": True}], *([[{}]] * (rows - 1))]
    drawn = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.06, specs=specs)
    drawn.update_layout(figure(title, height=190 * rows + 130).layout)
    _bars(drawn, sigma, None, standing, "σ", 1, legend=True)
    drawn.add_scatter(
        x=list(range(sigma.size)),
        y=100 * energy,
        name="cumulative energy, %",
        mode="lines+markers",
        line={"color": SERIES[2], "width": 2},
        hovertemplate="components 0–%{x}<br>%{y:.1f} % of Σσ²<extra></extra>",
        row=1,
        col=1,
        secondary_y=True,
    )
    drawn.update_yaxes(title_text="σ", type="log" if log else "linear", row=1, col=1, secondary_y=False)
    drawn.update_yaxes(
        title_text="energy, %",
        range=[0, 104],
        tickmode="array",
        tickvals=[0, 25, 50, 75, 90, 100],
        showgrid=False,
        row=1,
        col=1,
        secondary_y=True,
    )
    if mean is not None:
        _bars(drawn, mean, mean_error, standing, "mean g, nats per unit of σ", 2)
        drawn.add_hline(y=0, line={"color": NEUTRAL, "width": 1}, row=2, col=1)
    if agreement is not None:
        _bars(drawn, 100 * agreement, None, standing, "sign agreement, %", 3)
        drawn.add_hline(y=50, line={"color": NEUTRAL, "width": 1, "dash": "dash"}, row=3, col=1)
    if magnitude is not None:
        _bars(drawn, magnitude, magnitude_error, standing, "mean |g|", 4)
        drawn.update_yaxes(type="log" if log else "linear", row=4, col=1)
    drawn.update_xaxes(
        title_text="component, by falling σ", dtick=1 if sigma.size <= 32 else None, row=rows, col=1
    )
    drawn.update_xaxes(range=[-0.6, sigma.size - 0.4])
    drawn.update_layout(barmode="overlay", legend={"y": -0.09})
    return drawn


# twelve: a figure takes its columns one by one, named as they are drawn
def all_spectra(
    rows: Sequence[str],
    columns: Sequence[str],
    row: Int[ndarray, "component"],
    x: Float64[ndarray, "component"],
    width: Float64[ndarray, "component"],
    values: Float64[ndarray, "component"],
    labels: Sequence[str],
    *,
    title: str,
    measure: str,
    standing: Int[ndarray, "component"] | None = None,
    log: bool = False,
    same: bool = True,
) -> go.Figure:
    """Small bars of every module, one subplot a row; `x` counts columns, a module filling one of them.

    `same` gives all rows one scale.
    """
    empty = figure(title, height=150 + 92 * max(1, len(rows)))
    if not len(values):
        return say_empty(empty, "this adapter has no modules")
    drawn = make_subplots(
        rows=len(rows), cols=1, shared_xaxes=True, vertical_spacing=min(0.02, 1 / max(1, len(rows)))
    )
    drawn.update_layout(empty.layout)
    words = np.array([as_text(label) for label in labels], dtype=object)
    for at, label in enumerate(rows):
        for code, name, colour, pattern in _groups(standing):
            chosen = (row == at) & (True if standing is None else standing == code)
            if chosen.any():
                drawn.add_bar(
                    x=x[chosen],
                    y=values[chosen],
                    width=width[chosen],
                    customdata=words[chosen],
                    name=name,
                    legendgroup=name,
                    showlegend=not any(trace.name == name for trace in drawn.data),
                    marker={"color": colour, "line": {"width": 0}, "pattern": {"shape": pattern, "size": 4}},
                    hovertemplate="%{customdata}<br>" + measure + " %{y:.4g}<extra></extra>",
                    row=at + 1,
                    col=1,
                )
        drawn.update_yaxes(title_text=as_text(label), type="log" if log else "linear", row=at + 1, col=1)
    if same:
        drawn.update_yaxes(matches="y")
    step = max(1, len(columns) // 24)
    drawn.update_xaxes(tickvals=list(range(0, len(columns), step)), ticktext=list(columns)[::step])
    drawn.update_xaxes(title_text="layer", row=len(rows), col=1)
    drawn.update_layout(barmode="overlay", legend={"y": -0.1})
    return drawn


def over_depth(
    profiles: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    layers: Sequence[int],
    shares: Float64[ndarray, "layer 3"],
    *,
    title: str,
    measure: str,
    of: str,
) -> go.Figure:
    """One curve for each family, (layers, values); beside it the energy of `of` that helps, is neutral, hurts."""
    empty = figure(title, height=420, x="layer", y=measure)
    if not profiles:
        return say_empty(empty, "no module stands in a layer")
    drawn = make_subplots(rows=1, cols=2, horizontal_spacing=0.1)
    drawn.update_layout(empty.layout)
    for index, (family, (at, values)) in enumerate(profiles.items()):
        drawn.add_scatter(
            x=list(at),
            y=list(values),
            name=as_text(family),
            mode="lines+markers",
            marker={"symbol": index % 8, "size": 5},
            line={
                "color": _CURVES[index % len(_CURVES)],
                "width": 2,
                "dash": _DASHES[index % len(_DASHES)],
            },
            hovertemplate=f"{as_text(family)}, layer %{{x}}<br>%{{y:.2f}}<extra></extra>",
            row=1,
            col=1,
        )
    for column, (_, name, colour, pattern) in enumerate(STANDINGS):
        if len(layers):
            drawn.add_bar(
                x=list(layers),
                y=100 * shares[:, column],
                name=name,
                marker={"color": colour, "line": {"width": 0}, "pattern": {"shape": pattern, "size": 4}},
                hovertemplate=f"layer %{{x}}: %{{y:.1f}} % of energy {name}<extra></extra>",
                row=1,
                col=2,
            )
    drawn.update_xaxes(title_text="layer")
    drawn.update_yaxes(title_text=measure, rangemode="tozero", row=1, col=1)
    drawn.update_yaxes(title_text=f"energy of {as_text(of)}, %", range=[0, 100], row=1, col=2)
    drawn.update_layout(barmode="stack", bargap=0.1)
    return drawn


def ranking_stability(examples: Sequence[int], curves: Mapping[str, Sequence[float]], *, title: str) -> go.Figure:
    """Agreement of rankings at calibration budgets; 1 is the same order, 0 an unrelated one."""
    empty = figure(title, height=400, x="calibration examples", y="rank correlation")
    if not len(examples):
        return say_empty(empty, "nothing was measured yet")
    for index, (name, values) in enumerate(curves.items()):
        empty.add_scatter(
            x=[str(n) for n in examples],
            y=list(values),
            name=as_text(name),
            mode="lines+markers",
            marker={"symbol": index, "size": 8},
            line={"color": (AFTER, SERIES[2])[index % 2], "width": 2, "dash": "solid" if index < 2 else "dot"},
            hovertemplate=f"{as_text(name)}<br>%{{x}} examples: %{{y:.3f}}<extra></extra>",
        )
    empty.update_xaxes(type="category")
    empty.update_yaxes(range=[min(-0.05, *(v for c in curves.values() for v in c if v == v)) - 0.05, 1.05])
    return empty


def _groups(standing: Int[ndarray, "_"] | None) -> list[tuple[int, str, str, str]]:
    present = set() if standing is None else set(standing.tolist())
    known = [group for group in STANDINGS if group[0] in present]
    rest = present - {code for code, *_ in STANDINGS}
    return known + [(code, *_UNKNOWN) for code in sorted(rest or ({0} if standing is None else ()))]


# seven: a figure takes its columns one by one, named as they are drawn
def _bars(
    drawn: go.Figure,
    values: Float64[ndarray, "rank"],
    errors: Float64[ndarray, "rank"] | None,
    standing: Int[ndarray, "rank"] | None,
    label: str,
    row: int,
    *,
    legend: bool = False,
) -> None:
    """One trace for each standing, so that the legend can name it."""
    for code, name, colour, pattern in _groups(standing):
        chosen = np.arange(values.size) if standing is None else np.flatnonzero(standing == code)
        shown = None if errors is None else errors[chosen]
        drawn.add_bar(
            x=chosen,
            y=values[chosen],
            width=_BAR,
            error_y=None
            if shown is None
            else {"type": "data", "array": shown, "thickness": 1, "width": 2, "color": NEUTRAL},
            name=name,
            legendgroup=name,
            showlegend=legend,
            marker={"color": colour, "line": {"width": 0}, "pattern": {"shape": pattern}},
            customdata=shown,
            hovertemplate=f"component %{{x}}<br>{label} %{{y:.4g}}"
            + ("" if shown is None else " ± %{customdata:.2g}")
            + "<extra></extra>",
            row=row,
            col=1,
        )
    drawn.update_yaxes(title_text=label, row=row, col=1)
