"""The map of the Geometry page: how modules align, drawn by a component that holds a whole view at every k.

The server computes values, random references and chance levels; the component draws them. A change of
k, measure or marks needs no answer; another view or a selected pair does.
"""

import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from jaxtyping import Float64
from numpy import ndarray

import viz
from app.components import component
from app.geometry.choice import SIDES, VIEWS, Choice
from app.geometry.panels import Panel, panels_of
from app.geometry.reference import LEVEL, chance, cuts, expected, offered_ks
from app.geometry.tables import tables
from surgery.files import digest
from surgery.spectra import OverlapTable, Spectra, Spectrum, pair_detail, random_angles

KEY = "alignment-map"
LABELS = {"overlap": "overlap", "principal": "|cosine|"}
MEASURES = {"overlap": "Subspace overlap", "principal": "Leading direction"}
_UNKNOWN, _UNIT = 65535, 65534  # values travel as whole numbers of 1/65534

_mount = component("alignment_map", Path(__file__).parent, "map")


@dataclass(frozen=True)
class View:
    """What the map shows: the panels of a choice over the modules they are cut from.

    The choice's k is one of `ks`. `key` names the numbers: a component that holds them is not sent them again.
    """

    choice: Choice
    modules: tuple[Spectrum, ...]
    panels: tuple[Panel, ...]
    table: OverlapTable
    key: str

    @property
    def ks(self) -> list[int]:
        return offered_ks(self.table.largest_k)


def view_of(
    choice: Choice,
    spectra: Spectra,
    digests: tuple[str, ...],
    other: Spectra | None,
) -> View:
    """The view of a choice; raises `PolicyError` where these modules have none.

    `digests` are those of the adapter and of `other`, where there is one.
    """
    modules, panels = panels_of(choice, spectra, other)
    names = [module.name for module in modules]
    key = digest([*digests, choice.view, choice.side, *names, *(panel.title for panel in panels)])[:16]
    # all pairs of two adapters would be four times as many, and no view shows them
    about, everything = (
        ([*digests, *names], modules)
        if VIEWS[choice.view].other
        else ([digests[0], *spectra], list(spectra.values()))
    )
    table = tables().table(digest([*about, choice.side]), choice.side, everything, modules)
    for side in SIDES:  # the other one will be looked at next
        tables().begin(digest([*about, side]), side, everything)
    # k may have been chosen where ranks are larger, or stand in an address
    k = min(offered_ks(table.largest_k), key=lambda offered: abs(offered - choice.k))
    return View(replace(choice, k=k), modules, panels, table, key)


def alignment_map(data: Mapping[str, Any]) -> None:
    """Draw the map of `page_data`; what it asks for is in the session under `KEY` in the next run."""
    _mount(
        key=KEY,
        data=dict(data),
        on_choice_change=lambda: None,
        on_open_change=lambda: None,
        on_file_change=lambda: None,
    )


# eight: the fields of the record that the component is sent, and what decides whether its numbers are
def page_data(
    view: View | None,
    choice: Choice,
    *,
    families: list[str],
    has_other: bool,
    trouble: str = "",
    serial: int = 0,
    held: str = "",
    file: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the component needs for one answer; the numbers only if it does not hold them as `held`."""
    return {
        "choice": (view.choice if view is not None else choice).record(),
        "serial": serial,
        "options": {
            "view": [[name, kind.title] for name, kind in VIEWS.items() if has_other or not kind.other],
            "first": [[family, family] for family in families],
            "second": [[family, family] for family in families],
            "side": [[name, label] for name, label in SIDES.items()],
            "measure": [[name, label] for name, label in MEASURES.items()],
            "group": [["family", "by family"], ["layer", "by layer"]],
        },
        "purpose": VIEWS[choice.view].purpose,
        "uses": list(VIEWS[choice.view].uses),
        "name": f"{choice.view}-{choice.side}",
        "level": LEVEL,
        "legend": "Colours are cut at the largest value between different modules, so that a module's match with "
        "itself hides nothing."
        if view is not None and any(panel.same for panel in view.panels)
        else "",
        "trouble": trouble,
        "table": _numbers(view.key, view) if view is not None and view.key != held else None,
        "detail": _detail(view) if view is not None else None,
        "file": dict(file) if file else None,
        "palette": viz.PALETTE,
    }


@st.cache_resource(max_entries=8, show_spinner=False)
def _numbers(key: str, _view: View) -> dict[str, Any]:
    """The view at every k, as the component reads it; kept, because views are looked at in turn."""
    view = _view
    ks, table = view.ks, view.table
    spaces = sorted({int(d) for d in table.dimension})
    return {
        "key": view.key,
        "ks": ks,
        "unit": _UNIT,
        "unknown": _UNKNOWN,
        "random": [
            {"reference": _at_every_k(expected, d, ks), "chance": _at_every_k(chance, d, ks)} for d in spaces
        ],
        "panels": [_panel(view, panel, ks, spaces) for panel in view.panels],
    }


def _at_every_k(of: Callable[[int, int, str], float], dimension: int, ks: list[int]) -> dict[str, Any]:
    return {
        "principal": of(dimension, 1, "principal"),
        "overlap": [of(dimension, k, "overlap") for k in ks],
    }


def _panel(view: View, panel: Panel, ks: list[int], spaces: list[int]) -> dict[str, Any]:
    principal = values_of(view, panel, "principal", 1)
    overlaps = np.stack([values_of(view, panel, "overlap", k) for k in ks])
    curve = None
    if panel.curve:
        curve = {
            "title": panel.curve,
            "principal": _listed(_along(panel, principal)),
            "overlap": [_listed(_along(panel, values)) for values in overlaps],
        }
    return {
        "title": panel.title,
        "measure": panel.measure,
        "same": panel.same,
        "label": LABELS,
        "x": panel.x,
        "y": panel.y,
        "rows": list(panel.row_labels),
        "columns": list(panel.column_labels),
        "ticks": {
            "rows": [_tick(view.modules[i]) for i in panel.rows],
            "columns": [_tick(view.modules[j]) for j in panel.columns],
        },
        "groups": [{"from": a, "to": b, "label": label} for a, b, label in panel.groups] or None,
        "space": [spaces.index(int(view.table.dimension[i])) for i in panel.rows],
        "principal": _codes(principal),
        "overlap": _codes(overlaps),
        "curve": curve,
        "cut": {
            "principal": cuts(principal, reference_of(view, panel, "principal", 1), same=panel.same),
            "overlap": [
                cuts(values, reference_of(view, panel, "overlap", k), same=panel.same)
                for k, values in zip(ks, overlaps, strict=True)
            ],
        },
        "summary": {
            "principal": summary(view, panel, "principal", 1),
            "overlap": [summary(view, panel, "overlap", k) for k in ks],
        },
    }


def values_of(view: View, panel: Panel, measure: str, k: int) -> Float64[ndarray, "row column"]:
    return view.table.values(measure, k, panel.rows, panel.columns)


def reference_of(view: View, panel: Panel, measure: str, k: int) -> Float64[ndarray, " row"]:
    """What random subspaces give on average, row by row."""
    dimensions = view.table.dimension[list(panel.rows)]
    random = {d: expected(int(d), k, measure) for d in set(dimensions.tolist())}
    return np.array([random[d] for d in dimensions.tolist()])


def summary(view: View, panel: Panel, measure: str, k: int) -> dict[str, Any]:
    """The panel in numbers: mean over the pairs that its view is about, and how many cells beat chance."""
    values = values_of(view, panel, measure, k)
    # a pair of one family stands in the map twice
    counted = np.triu(np.ones(values.shape, dtype=bool), 1) if panel.same else np.ones(values.shape, dtype=bool)
    known = counted & np.isfinite(values)
    dimensions = [int(d) for d in view.table.dimension[list(panel.rows)]]
    random = {d: (expected(d, k, measure), chance(d, k, measure)) for d in set(dimensions)}
    reference, level = np.array([random[d] for d in dimensions]).T[:, :, np.newaxis]
    above = values > level
    told = np.isfinite(values) & np.eye(*values.shape, dtype=np.bool_) if panel.inside else known
    ratio = values / reference
    return {
        "mean": float(values[told].mean()) if told.any() else None,
        "ratio": float(ratio[told].mean()) if told.any() else None,
        "above": int((above & known).sum()),
        "cells": int(known.sum()),
        "where": "inside a layer" if panel.inside else "of all pairs",
    }


def _along(panel: Panel, values: Float64[ndarray, "row column"]) -> Float64[ndarray, " row"]:
    """The curve over depth: a layer's own pair, or its mean with all other layers."""
    if panel.inside:
        return np.diag(values).copy()
    others = np.where(np.eye(*values.shape, dtype=np.bool_), np.nan, values)
    known = np.isfinite(others)
    return np.divide(
        np.where(known, others, 0).sum(axis=1),
        known.sum(axis=1),
        out=np.full(len(values), np.nan),
        where=known.any(axis=1),
    )


def _detail(view: View) -> dict[str, Any] | None:
    """The selected pair; None where there is none, or no value for it."""
    choice = view.choice
    p, i, j = choice.cell or (len(view.panels), 0, 0)
    if p >= len(view.panels) or i >= len(view.panels[p].rows) or j >= len(view.panels[p].columns):
        return None
    panel = view.panels[p]
    left, right = view.modules[panel.rows[i]], view.modules[panel.columns[j]]
    measure = panel.measure or choice.measure
    if not np.isfinite(view.table.values(measure, choice.k, [panel.rows[i]], [panel.columns[j]])[0, 0]):
        return None
    most = min(int((~left.null).sum()), int((~right.null).sum()))  # the leading direction needs but one
    pair = pair_detail(left, right, k=min(choice.k, most), side=choice.side)
    k, d = pair.cosines.size, pair.dimension
    value = pair.overlap if measure == "overlap" else float(pair.similarity[0, 0])
    level, reference = chance(d, k, measure), expected(d, k, measure)
    verdict = "beyond random" if value > level else "not distinguishable from random"
    first, second = panel.row_labels[i], panel.column_labels[j]
    return {
        "title": f"{first} against {second}",
        "said": f"{LABELS[measure].capitalize()} {value:.4f}, {value / reference:.1f} times random ({reference:.4f}): {verdict} "
        f"(chance level {level:.4f}). First angle {pair.angles[0]:.1f}°.",
        "value": value,
        "angles": pair.angles.tolist(),
        "random": list(random_angles(d, k)),
        "similarity": np.minimum(pair.similarity, 1.0).tolist(),
        "shared": [[c.coordinate, c.left, c.right, None if math.isnan(c.share) else c.share] for c in pair.shared],
        "left": {"name": left.name, "label": first, "sigma": left.sigma.tolist(), "here": True},
        "right": {"name": right.name, "label": second, "sigma": right.sigma.tolist(), "here": not panel.foreign},
    }


def _codes(values: Float64[ndarray, " *shape"]) -> str:
    """Values in [0, 1] as whole numbers: half the size of a float, fine enough to draw and to read."""
    codes = np.where(np.isfinite(values), np.rint(np.nan_to_num(values) * _UNIT), _UNKNOWN)
    return base64.b64encode(codes.astype("<u2").tobytes()).decode()


def _listed(values: Float64[ndarray, " row"]) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]


def _tick(module: Spectrum) -> str:
    return module.name.rpartition(".")[2] if module.layer is None else str(module.layer)
