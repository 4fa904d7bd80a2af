"""The files that a person may take home from the Spectra page: numbers with every digit, and live figures."""

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import numpy as np
import plotly.graph_objects as go

import viz
from app.spectra.choice import Choice
from app.spectra.numbers import ALL, UNKNOWN, Measured, Numbers

SHOW_LABELS = {
    "sigma": "σ",
    "energy": "cumulative Frobenius energy Σσ²",
    "share": "share of Frobenius energy σ²",
    "functional": "share of functional energy σ²q",
    "mean": "signed mean g",
    "magnitude": "mean |g|",
}
MEASURE_LABELS = {
    "effective": "effective rank",
    "stable": "stable rank",
    "k90": "components for 90 % of the energy Σσ²",
    "nuclear": "r₂ = (Σσ)²/Σσ²",
    "functional": "functional participation ratio (σ²q)",
    "full": "full-moment participation ratio",
}
FORMATS = ("csv", "html")
_STANDING = {standing.code: standing.name for standing in viz.STANDINGS} | {UNKNOWN: ""}


def file_of(kind: str, choice: Choice, numbers: Numbers) -> dict[str, str] | None:
    """The figure shown as `kind`, one of FORMATS; None where there is no such file of this view."""
    stem = f"spectra-{_slug(choice.module) if choice.view == 'one' else choice.view}"
    if choice.view == "lists":
        stem += f"-{choice.list}"
    if kind == "csv":
        return {"name": f"{stem}.csv", "type": "text/csv", "text": _csv(choice, numbers)}
    drawn = _figure(choice, numbers) if kind == "html" else None
    if drawn is None:
        return None
    # Streamlit makes a template with placeholder colours plotly's default
    drawn.update_layout(template="plotly_white", paper_bgcolor="white", plot_bgcolor="white")
    return {"name": f"{stem}.html", "type": "text/html", "text": drawn.to_html(include_plotlyjs=True)}


def _csv(choice: Choice, numbers: Numbers) -> str:
    rows: Iterable[dict[str, Any]]
    if choice.view == "depth":
        rows = _modules(numbers)
    elif choice.view in ("lists", "stability"):
        measured = numbers.measured
        found: Iterable[Any] = ()
        if measured is not None:
            found = measured.lists[choice.list] if choice.view == "lists" else measured.stability
        rows = (asdict(each) for each in found)
    else:
        rows = _components(numbers, [choice.module] if choice.view == "one" else list(numbers.spectra))
    text = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(text, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow({name: _exact(value) for name, value in row.items()})
    return text.getvalue()


def _components(numbers: Numbers, names: list[str]) -> Iterable[dict[str, Any]]:
    found = numbers.measured
    for name in names:
        spectrum = numbers.spectra[name]
        for k, at in enumerate(range(*numbers.places(name).indices(numbers.sigma.size))):
            row = {
                "module": name,
                "layer": spectrum.layer,
                "family": spectrum.family,
                "component": k,
                "sigma": numbers.sigma[at],
                "energy_share": numbers.share[at],
                "cumulative_energy": numbers.energy[at],
                "functional_energy_share": numbers.functional[at],
                "q": numbers.q[at],
                "degenerate": bool(numbers.degenerate[at]),
            }
            if found is not None:
                row |= {
                    "mean_g": found.mean[at],
                    "mean_g_standard_error": found.error[at],
                    "mean_abs_g": found.magnitude[at],
                    "mean_abs_g_standard_error": found.magnitude_error[at],
                    "sign_agreement": found.agreement[at],
                    "standing": _STANDING[int(found.standing[at])],
                }
            yield row


def _modules(numbers: Numbers) -> Iterable[dict[str, Any]]:
    for name, spectrum in numbers.spectra.items():
        row = {
            "module": name,
            "layer": spectrum.layer,
            "family": spectrum.family,
            "effective_rank": numbers.effective[name],
            "stable_rank": numbers.stable[name],
            "components_for_90_percent_energy": numbers.k90[name],
            "r2": numbers.ratios["nuclear"][name],
            "functional_participation_ratio": numbers.ratios["functional"][name],
            "full_moment_participation_ratio": numbers.ratios["full"][name],
        }
        if numbers.measured is not None:
            shares = numbers.measured.shares.get(name, np.full(3, np.nan))
            row |= dict(zip(("energy_helps", "energy_neutral", "energy_hurts"), shares, strict=True))
        yield row


def _exact(value: Any) -> Any:
    """Floats with every digit; what is not known stays empty."""
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else repr(float(value))
    return value


def _figure(choice: Choice, numbers: Numbers) -> go.Figure | None:
    measured = numbers.measured
    if choice.view == "all":
        return _all(choice, numbers)
    if choice.view == "one":
        return _one(choice, numbers)
    if choice.view == "depth":
        return _depth(choice, numbers)
    if choice.view == "stability" and measured is not None:
        return viz.ranking_stability(
            [budget.examples for budget in measured.stability],
            stability_curves(measured),
            title="How stable the rankings are",
        )
    return None


def stability_curves(measured: Measured) -> dict[str, list[float]]:
    """Rank correlations at every budget, those of disjoint halves first."""
    budgets = measured.stability
    return {
        "mean |g|, two halves": [budget.half_magnitude for budget in budgets],
        "signed mean g, two halves": [budget.half_signed for budget in budgets],
        "mean |g|, against all examples": [budget.magnitude for budget in budgets],
        "signed mean g, against all examples": [budget.signed for budget in budgets],
    }


def _one(choice: Choice, numbers: Numbers) -> go.Figure:
    at, found = numbers.places(choice.module), numbers.measured
    given: dict[str, Any] = {}
    if found is not None:
        given = {
            "standing": found.standing[at],
            "mean": found.mean[at],
            "mean_error": found.error[at],
            "agreement": found.agreement[at],
            "magnitude": found.magnitude[at],
            "magnitude_error": found.magnitude_error[at],
        }
    log = choice.scale == "log"
    return viz.module_spectrum(numbers.sigma[at], numbers.energy[at], title=choice.module, log=log, **given)


def _all(choice: Choice, numbers: Numbers) -> go.Figure:
    rows, columns, places = layout_of(numbers)
    found = numbers.measured
    values = {
        "sigma": numbers.sigma,
        "energy": numbers.energy,
        "share": numbers.share,
        "functional": numbers.functional if np.isfinite(numbers.functional).any() else None,
        "mean": found.mean if found else None,
        "magnitude": found.magnitude if found else None,
    }[choice.show]
    if values is None:
        no_place, nothing = np.zeros(0, np.int64), np.zeros(0)
        return viz.all_spectra(
            rows,
            columns,
            no_place,
            nothing,
            nothing,
            nothing,
            [],
            title="not measured yet",
            measure=SHOW_LABELS[choice.show],
        )
    ranks = [spectrum.rank for spectrum in numbers.spectra.values()]
    inside = np.concatenate([(np.arange(rank) + 0.5) / rank - 0.5 for rank in ranks])
    row, column = (np.repeat([place[axis] for place in places.values()], ranks) for axis in (0, 1))
    labels = [f"{name}, component {k}" for name, s in numbers.spectra.items() for k in range(s.rank)]
    return viz.all_spectra(
        rows,
        columns,
        row,
        column + 0.92 * inside,
        np.repeat(0.92 / np.array(ranks), ranks),
        values,
        labels,
        title=f"{SHOW_LABELS[choice.show]} of every component, by family and layer",
        measure=SHOW_LABELS[choice.show],
        standing=found.standing if found else None,
        log=choice.scale == "log" and choice.show in ("sigma", "magnitude"),
        same=choice.range == "same",
    )


def _depth(choice: Choice, numbers: Numbers) -> go.Figure:
    profiles: dict[str, tuple[list[int], list[float]]] = {}
    for name, value in numbers.profile(choice.measure).items():
        spectrum = numbers.spectra[name]
        if spectrum.layer is not None:
            layers, values = profiles.setdefault(spectrum.family, ([], []))
            layers.append(spectrum.layer)
            values.append(value)
    found = numbers.measured
    layers, shares = (found.layer_shares if found else {}).get(choice.family, ([], np.zeros((0, 3))))
    label = MEASURE_LABELS[choice.measure]
    return viz.over_depth(
        profiles,
        layers,
        shares,
        title=f"{label[0].upper()}{label[1:]} over depth",
        measure=label,
        of="all families" if choice.family == ALL else choice.family,
    )


def layout_of(numbers: Numbers) -> tuple[list[str], list[str], dict[str, tuple[int, int]]]:
    """Row labels, column labels, and (row, column) of every module.

    Rows are families and columns layers; several modules of one family in one layer, such as experts,
    get a row each. Modules without a layer follow in rows of their own.
    """
    spectra = numbers.spectra
    layers = sorted({s.layer for s in spectra.values() if s.layer is not None})
    width = max(len(layers), 8)
    taken: dict[tuple[str, int], int] = {}
    depth: dict[str, int] = {}
    placed: dict[str, tuple[str, int, int]] = {}
    outside: list[str] = []
    for name, spectrum in spectra.items():
        if spectrum.layer is None:
            outside.append(name)
            continue
        key = (spectrum.family, spectrum.layer)
        number = taken.get(key, 0)
        taken[key] = number + 1
        depth[spectrum.family] = max(depth.get(spectrum.family, 0), number + 1)
        placed[name] = (spectrum.family, number, layers.index(spectrum.layer))
    rows: list[str] = []
    first: dict[str, int] = {}
    for family, count in depth.items():
        first[family] = len(rows)
        rows += [family] if count == 1 else [f"{family} #{number}" for number in range(count)]
    places = {name: (first[family] + number, column) for name, (family, number, column) in placed.items()}
    for n, name in enumerate(outside):
        places[name] = (len(rows) + n // width, n % width)
    rows += ["no layer"] * -(-len(outside) // width)
    columns = [str(layer) for layer in layers]
    columns += [""] * ((width if outside else len(layers)) - len(columns))
    return rows, columns, {name: places[name] for name in spectra}


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() or c in "._" else "-" for c in name)[-80:]
