"""The board at rest: what each proven edit does to every module, as maps of gains, one spectrum and a table."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float64
from numpy import ndarray
from plotly.utils import PlotlyJSONEncoder

import viz
from app.report.markup import Html, element, facts, join, paragraphs, table, visible
from app.report.material import Material, Part
from app.report.payload import packed
from app.report.places import figure_place
from surgery.edits import Edit, ModuleEdit, Preview, largest_text, largest_values, preview, summary
from surgery.experiments import EditMadeAgain
from surgery.spectra import Spectra

_MOST = 1_000  # modules that are drawn: those that move most
_MAP = "gains-"
_ROOM = 1 << 20  # bytes for the edits behind the first: a report stays below 5 MB


@dataclass(frozen=True)
class _Family:
    """The drawn modules of one family by depth; what a row of σ has no number for is NaN."""

    name: str
    modules: tuple[str, ...]
    rows: tuple[str, ...]
    sigma: Float64[ndarray, "module rank"]
    after: Float64[ndarray, "module rank"]


def edit_at_rest(material: Material) -> Part:
    """Gains of every module of each edit, the spectrum of one before and after, and numbers that need no model.

    The first edit is drawn whatever it takes, the others as long as there is room.
    """
    if not material.edits:
        return Part(paragraphs([f"The edit cannot be drawn: {material.why}."]))
    figures: dict[str, go.Figure] = {}
    data: dict[str, str] = {}
    blocks: dict[str, Html] = {}
    crowded = []
    room = _ROOM
    for place, (name, made) in enumerate(material.edits.items()):
        part = _unmade(name, made) if isinstance(made, str) else _drawn_edit(material, name, made, _prefix(place))
        taken = _bytes(part)
        if place and taken > room:
            crowded.append(name)
            continue
        room -= taken if place else 0
        figures, data = {**figures, **part.figures}, {**data, **part.data}
        blocks[name] = element("div", part.html, class_="edit", data_prefix=_prefix(place))
    told = (
        f"No room is left in this file for the figures of {name!r}: its numbers stand in the tables above."
        for name in crowded
    )
    return Part(join([_edit_picker(list(blocks)), *blocks.values(), paragraphs(told, "small")]), figures, data)


def _prefix(place: int) -> str:
    """What the names of an edit's figures and controls begin with."""
    return f"edit{place}-" if place else ""


def _bytes(part: Part) -> int:
    """What a part takes in the file, near enough: its figures are packed with those of the others."""
    drawn = [figure.to_plotly_json() for figure in part.figures.values()]
    figures = packed(json.loads(json.dumps(drawn, cls=PlotlyJSONEncoder)))
    return len(part.html) + len(figures) + sum(map(len, part.data.values()))


def _edit_picker(names: Sequence[str]) -> Html:
    if len(names) < 2:
        return Html("")
    options = (element("option", name, value=str(place)) for place, name in enumerate(names))
    chosen = element("label", "Edit ", element("select", *options, id="which-edit"))
    return element("p", chosen, class_="script", hidden="")


def _unmade(name: str, why: str) -> Part:
    return Part(paragraphs([f"The edit cannot be drawn: {name!r}, {why}."]))


def _drawn_edit(material: Material, name: str, made: EditMadeAgain, prefix: str) -> Part:
    edit = made.edit
    drawn = _drawn(edit)
    families = _families(edit, material.spectra, drawn)
    figures = {f"{prefix}{_MAP}{place}": _map(family) for place, family in enumerate(families)}
    most = max(drawn, key=lambda module: _moved(edit.modules[module]), default="")
    chosen: Sequence[Html] = ()
    if most:
        module, spectrum = edit.modules[most], f"{prefix}spectrum"
        figures[spectrum] = viz.spectrum_before_and_after(module.sigma, module.sigma_after, title=visible(most))
        chosen = [
            _picker(drawn, most, prefix),
            figure_place(spectrum, figures[spectrum], "σ of one module"),
        ]
    maps = (
        figure_place(place, figure, f"Gains of family {family.name}")
        for (place, figure), family in zip(figures.items(), families, strict=False)
    )
    html = join(
        [
            paragraphs(_said(material, name, made, len(drawn)), "small"),
            facts(_numbers(preview(edit, made.sensitivity) or summary(edit))),
            element("div", *maps, class_="beside"),
            *chosen,
            element(
                "details",
                element("summary", "Every module of the figures"),
                table(_rows(edit, drawn), class_="numbers"),
            ),
        ]
    )
    return Part(html, figures, {f"{prefix}modules": packed(_record(edit, drawn))} if most else {})


def _said(material: Material, name: str, made: EditMadeAgain, drawn: int) -> list[str]:
    edit = made.edit
    how = (
        "its σ′ is bit for bit the one that was proven"
        if made.exact
        else "on another measurement of the same rows: its σ′ may differ from the proven one in its last digits"
    )
    told = [f"Variant {name!r}, made again for this report: {how}."]
    if drawn < len(edit.modules):
        told.append(f"{len(edit.modules):,} modules were edited; the {drawn:,} that move most are drawn.")
    if skipped := edit.skipped:
        reasons = "; ".join(sorted(set(skipped.values())))
        told.append(f"{len(skipped)} of {len(edit.modules)} modules were left alone: {reasons}.")
    largest = largest_values(edit)
    if largest is not None:
        energy = str(material.run.plan.edits[name].get("energy"))
        text = largest_text(largest, energy)
        told.append(f"{text[0].upper()}{text[1:]}.")
    return told


def _numbers(numbers: Preview) -> dict[str, str]:
    """The preview as a reader is told it; what is not known is left out."""
    found = {
        "raised, lowered, zeroed": f"{numbers.raised:,}, {numbers.lowered:,}, {numbers.zeroed:,}",
        "nuclear norm moved": f"{numbers.nuclear_norm_moved:.1%}",
        "nuclear norm, Σσ′/Σσ": f"{numbers.nuclear_norm_ratio:.3f}",
    }
    if math.isfinite(numbers.functional_energy_ratio):
        found["functional energy, E‖ΔW′x‖²/E‖ΔWx‖²"] = f"{numbers.functional_energy_ratio:.3f}"
    if math.isfinite(numbers.predicted):
        found["predicted change of the calibration loss, nats per answer token"] = (
            f"{numbers.predicted:+.4f} ± {numbers.standard_error:.4f}"
        )
    return found


def _moved(module: ModuleEdit) -> float:
    return float(np.abs(module.sigma_after - module.sigma).sum())


def _drawn(edit: Edit) -> tuple[str, ...]:
    """The modules that are drawn, in the edit's order."""
    if len(edit.modules) <= _MOST:
        return tuple(edit.modules)
    moved = sorted(edit.modules, key=lambda name: _moved(edit.modules[name]), reverse=True)
    kept = set(moved[:_MOST])
    return tuple(name for name in edit.modules if name in kept)


def _families(edit: Edit, spectra: Spectra, drawn: Sequence[str]) -> list[_Family]:
    by_name: dict[str, list[str]] = {}
    for name in drawn:
        by_name.setdefault(spectra[name].family, []).append(name)
    return [_family(name, edit, spectra, modules) for name, modules in by_name.items()]


def _family(name: str, edit: Edit, spectra: Spectra, modules: list[str]) -> _Family:
    layers = {module: spectra[module].layer for module in modules}
    order = sorted(modules, key=lambda module: -1 if layers[module] is None else int(layers[module] or 0))
    rank = max(edit.modules[module].sigma.size for module in order)
    sigma, after = (np.full((len(order), rank), np.nan) for _ in range(2))
    for row, module in enumerate(order):
        own = edit.modules[module]
        sigma[row, : own.sigma.size], after[row, : own.sigma.size] = own.sigma, own.sigma_after
    return _Family(
        name,
        tuple(order),
        tuple("" if layers[module] is None else str(layers[module]) for module in order),
        sigma,
        after,
    )


def _map(family: _Family) -> go.Figure:
    names = [visible(name) for name in family.modules]
    return viz.gain_map(names, family.rows, family.sigma, family.after, title=visible(family.name))


def _picker(drawn: Sequence[str], most: str, prefix: str) -> Html:
    options = (
        element("option", name, value=str(place), selected="" if name == most else None)
        for place, name in enumerate(drawn)
    )
    return element(
        "p",
        element("label", "Module ", element("select", *options, id=f"{prefix}module")),
        class_="script",
        hidden="",
    )


def _record(edit: Edit, drawn: Sequence[str]) -> list[dict[str, Any]]:
    """σ and σ′ of the drawn modules for the script, to the digits that a figure shows."""
    return [
        {"name": visible(name), "sigma": _digits(module.sigma), "after": _digits(module.sigma_after)}
        for name, module in ((name, edit.modules[name]) for name in drawn)
    ]


def _digits(values: Float64[ndarray, " rank"]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def _rows(edit: Edit, drawn: Sequence[str]) -> list[Mapping[str, Any]]:
    """A row for each drawn module."""
    rows: list[Mapping[str, Any]] = []
    for name in drawn:
        module = edit.modules[name]
        sigma, after = module.sigma, module.sigma_after
        rows.append(
            {
                "module": name,
                "rank": sigma.size,
                "σ₁": f"{sigma.max(initial=0):.4g}",
                "σ′₁": f"{after.max(initial=0):.4g}",
                "Σσ": f"{sigma.sum():.4g}",
                "Σσ′": f"{after.sum():.4g}",
                "least gain": f"{module.gains.min(initial=np.inf):.3f}",
                "largest gain": f"{module.gains.max(initial=0):.3f}",
            }
        )
    return rows
