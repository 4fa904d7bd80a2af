"""Spectra with their sensitivities, profiles over depth, and how stable rankings are."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64, Int
from numpy import ndarray
from plotly.subplots import make_subplots

from viz.style import (
    CURVES,
    DASHES,
    ENERGY,
    NEUTRAL,
    RANKINGS,
    STANDINGS,
    UNMEASURED,
    Standing,
    as_text,
    figure,
    say_empty,
)

_BAR = 0.75


# ten: a figure takes its columns one by one, named as they are drawn
def module_spectrum(
    sigma: Float64[ndarray, " rank"],
    energy: Float64[ndarray, " rank"],
    *,
    title: str,
    standing: Int[ndarray, " rank"] | None = None,
    mean: Float64[ndarray, " rank"] | None = None,
    mean_error: Float64[ndarray, " rank"] | None = None,
    agreement: Float64[ndarray, " rank"] | None = None,
    magnitude: Float64[ndarray, " rank"] | None = None,
    magnitude_error: Float64[ndarray, " rank"] | None = None,
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
        line={"color": ENERGY, "width": 2},
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
    row: Int[ndarray, " component"],
    x: Float64[ndarray, " component"],
    width: Float64[ndarray, " component"],
    values: Float64[ndarray, " component"],
    labels: Sequence[str],
    *,
    title: str,
    measure: str,
    standing: Int[ndarray, " component"] | None = None,
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
        for code, drawn_as in _groups(standing):
            chosen = (row == at) & (True if standing is None else standing == code)
            if chosen.any():
                drawn.add_bar(
                    x=x[chosen],
                    y=values[chosen],
                    width=width[chosen],
                    customdata=words[chosen],
                    name=drawn_as.words,
                    legendgroup=drawn_as.words,
                    showlegend=not any(trace.name == drawn_as.words for trace in drawn.data),
                    marker=_marker(drawn_as, size=4),
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
                "color": CURVES[index % len(CURVES)],
                "width": 2,
                "dash": list(DASHES)[index % len(DASHES)],
            },
            hovertemplate=f"{as_text(family)}, layer %{{x}}<br>%{{y:.2f}}<extra></extra>",
            row=1,
            col=1,
        )
    for column, standing in enumerate(STANDINGS):
        if len(layers):
            drawn.add_bar(
                x=list(layers),
                y=100 * shares[:, column],
                name=standing.words,
                marker=_marker(standing, size=4),
                hovertemplate=f"layer %{{x}}: %{{y:.1f}} % of energy {standing.words}<extra></extra>",
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
        colour, dash = RANKINGS[index % len(RANKINGS)]
        empty.add_scatter(
            x=[str(n) for n in examples],
            y=list(values),
            name=as_text(name),
            mode="lines+markers",
            marker={"symbol": index, "size": 8},
            line={"color": colour, "width": 2, "dash": dash},
            hovertemplate=f"{as_text(name)}<br>%{{x}} examples: %{{y:.3f}}<extra></extra>",
        )
    empty.update_xaxes(type="category")
    empty.update_yaxes(range=[min(-0.05, *(v for c in curves.values() for v in c if v == v)) - 0.05, 1.05])
    return empty


def _groups(standing: Int[ndarray, " _"] | None) -> list[tuple[int, Standing]]:
    """The codes that occur, each with how it is drawn; a code that is no standing was not measured."""
    if standing is None:
        return [(UNMEASURED.code, UNMEASURED)]
    present = set(standing.tolist())
    known = [(each.code, each) for each in STANDINGS if each.code in present]
    return known + [(code, UNMEASURED) for code in sorted(present - {each.code for each in STANDINGS})]


def _marker(standing: Standing, **pattern: float) -> dict[str, object]:
    return {
        "color": standing.colour,
        "opacity": standing.opacity,
        "line": {"width": 0},
        "pattern": {"shape": "/" if standing.striped else "", **pattern},
    }


# seven: a figure takes its columns one by one, named as they are drawn
def _bars(
    drawn: go.Figure,
    values: Float64[ndarray, " rank"],
    errors: Float64[ndarray, " rank"] | None,
    standing: Int[ndarray, " rank"] | None,
    label: str,
    row: int,
    *,
    legend: bool = False,
) -> None:
    """One trace for each standing, so that the legend can name it."""
    for code, drawn_as in _groups(standing):
        chosen = np.arange(values.size) if standing is None else np.flatnonzero(standing == code)
        shown = None if errors is None else errors[chosen]
        drawn.add_bar(
            x=chosen,
            y=values[chosen],
            width=_BAR,
            error_y=None
            if shown is None
            else {"type": "data", "array": shown, "thickness": 1, "width": 2, "color": NEUTRAL},
            name=drawn_as.words,
            legendgroup=drawn_as.words,
            showlegend=legend,
            marker=_marker(drawn_as),
            customdata=shown,
            hovertemplate=f"component %{{x}}<br>{label} %{{y:.4g}}"
            + ("" if shown is None else " ± %{customdata:.2g}")
            + "<extra></extra>",
            row=row,
            col=1,
        )
    drawn.update_yaxes(title_text=label, row=row, col=1)
