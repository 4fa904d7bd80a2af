"""Spectra of single modules with their sensitivities, and rank profiles over depth."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from jaxtyping import Float64
from numpy import ndarray
from plotly.subplots import make_subplots

from viz.style import AFTER, HARMFUL, HELPFUL, NEUTRAL, SERIES, as_text, figure, say_empty


def module_spectrum(
    sigma: Float64[ndarray, "rank"],
    *,
    title: str,
    magnitude: Float64[ndarray, "rank"] | None = None,
    magnitude_error: Float64[ndarray, "rank"] | None = None,
    mean: Float64[ndarray, "rank"] | None = None,
    mean_error: Float64[ndarray, "rank"] | None = None,
    log: bool = False,
) -> go.Figure:
    """σ per component; below it, where measured, signed mean and magnitude of the sensitivity.

    Signed means whose two standard errors reach zero are drawn neutral: their sign is noise.
    """
    measured = mean is not None and mean_error is not None
    rows = 3 if measured else 1
    drawn = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.07)
    drawn.update_layout(figure(title, height=210 * rows + 90).layout)
    components = list(range(sigma.size))
    drawn.add_bar(
        x=components,
        y=sigma,
        marker_color=AFTER,
        hovertemplate="component %{x}<br>σ %{y:.4g}<extra></extra>",
        row=1,
        col=1,
    )
    drawn.update_yaxes(title_text="σ", type="log" if log else "linear", row=1, col=1)
    if mean is not None and mean_error is not None:
        colours = [
            NEUTRAL if not abs(m) > 2 * e else HARMFUL if m > 0 else HELPFUL
            for m, e in zip(mean, mean_error, strict=True)
        ]
        _bars_with_errors(drawn, mean, mean_error, colours, "mean g", 2)
        drawn.add_hline(y=0, line={"color": NEUTRAL, "width": 1}, row=2, col=1)
    if measured and magnitude is not None and magnitude_error is not None:
        _bars_with_errors(drawn, magnitude, magnitude_error, NEUTRAL, "mean |g|", 3)
    drawn.update_xaxes(
        title_text="component, by falling σ", dtick=1 if sigma.size <= 32 else None, row=rows, col=1
    )
    drawn.update_layout(showlegend=False, bargap=0.25)
    return drawn


def rank_profile(
    profiles: Mapping[str, tuple[Sequence[int], Sequence[float]]], *, title: str, measure: str
) -> go.Figure:
    """One curve over depth for each family: (layers, values)."""
    empty = figure(title, height=360, x="layer", y=measure)
    if not profiles:
        return say_empty(empty, "no module stands in a layer")
    for index, (family, (layers, values)) in enumerate(profiles.items()):
        empty.add_scatter(
            x=list(layers),
            y=list(values),
            name=as_text(family),
            mode="lines",
            line={"color": SERIES[index % len(SERIES)], "width": 2},
            hovertemplate=f"{as_text(family)}, layer %{{x}}<br>%{{y:.2f}}<extra></extra>",
        )
    empty.update_yaxes(rangemode="tozero")
    return empty


def _bars_with_errors(
    drawn: go.Figure,
    values: Float64[ndarray, "rank"],
    errors: Float64[ndarray, "rank"],
    colour: str | list[str],
    label: str,
    row: int,
) -> None:
    drawn.add_bar(
        x=list(range(values.size)),
        y=values,
        error_y={"type": "data", "array": errors, "thickness": 1, "width": 2, "color": NEUTRAL},
        marker_color=colour,
        customdata=errors,
        hovertemplate=f"component %{{x}}<br>{label} %{{y:.3g}} ± %{{customdata:.2g}}<extra></extra>",
        row=row,
        col=1,
    )
    drawn.update_yaxes(title_text=label, row=row, col=1)
