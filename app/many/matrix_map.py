"""The matrix of a set as a map: what is chosen of it, what its component is sent, and the pair that is looked at."""

import base64
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from numpy import ndarray

import viz
from app.components import component
from app.frame import plain, show_error
from app.geometry.beside import opened_beside, show_beside
from app.state.workspace import current, open_source
from surgery.adapter_sets import (
    COSINE,
    LEVEL,
    AdapterSet,
    Clusters,
    Matrix,
    PairValues,
    cluster_members,
    matrix_values,
    pair_rows,
    pairs_csv,
)
from surgery.errors import SurgeryError

KEY = "member-matrix"
_PAIR = "matrix-pair"
MEASURES = {"overlap": "Subspace overlap", "principal": "Leading direction", COSINE: "Cosine of ΔW"}
SIDES = {"output": "Output, U: what is written", "input": "Input, V: what is read"}
ORDERS = ("Clustered", "By name")
ALL = "all"
_VALUES = ("overlap output", "overlap input", COSINE)

_mount = component("member_matrix", Path(__file__).parent, "matrix")


@st.fragment
def matrix_map(adapters: AdapterSet, matrix: Matrix) -> None:
    """The map with its controls; a choice reruns this part of the page alone."""
    sent = st.session_state.get(KEY)
    asked: Mapping[str, Any] = sent if isinstance(sent, dict) else {}
    if (pair := _pair(matrix, asked.get("open"))) is not None:
        open_pair(adapters, pair, st.session_state.get("matrix-family", ALL))
    if (pair := _pair(matrix, asked.get("pair"))) is not None:
        st.session_state[_PAIR] = pair
    selected = _pair(matrix, st.session_state.get(_PAIR))
    choice = _controls(matrix)
    found = values_of(matrix, choice)
    clusters = cluster_members(found)
    left, right = st.columns([2.1, 1], gap="medium")
    with left:
        _mount(
            key=KEY,
            data=map_data(matrix, choice, found, clusters, selected),
            on_pair_change=lambda: None,
            on_open_change=lambda: None,
        )
    with right:
        st.caption(summary(found, clusters))
        if selected is not None and selected[0] != selected[1]:
            _show_pair(adapters, matrix, selected, choice)
        st.download_button(
            "All pairs as CSV",
            lambda: pairs_csv(pair_rows(matrix, choice["k"], family=choice["family"], layer=choice["layer"])),
            "pairs.csv",
            "text/csv",
            on_click="ignore",
        )


def _controls(matrix: Matrix) -> dict[str, Any]:
    cells = st.columns([1.2, 0.6, 1.4, 1, 0.8, 0.9])
    measure = cells[0].selectbox("Measure", list(MEASURES), key="matrix-measure", format_func=MEASURES.__getitem__)
    at = min(range(len(matrix.ks)), key=lambda index: abs(matrix.ks[index] - 4))
    k = cells[1].selectbox("k", matrix.ks, index=at, key="matrix-k", disabled=measure != "overlap")
    side = cells[2].selectbox(
        "Space", list(SIDES), key="matrix-side", format_func=SIDES.__getitem__, disabled=measure == COSINE
    )
    family = cells[3].selectbox("Family", [ALL, *matrix.families], key="matrix-family")
    layers = [layer for layer in matrix.layers if family in (ALL, *_families_of(matrix, layer))]
    layer = cells[4].selectbox(
        "Layer", [ALL, *layers], key="matrix-layer", format_func=lambda at: "outside" if at == -1 else str(at)
    )
    order = cells[5].selectbox("Order", ORDERS, key="matrix-order")
    return {
        "measure": measure,
        "k": k,
        "side": side,
        "family": None if family == ALL else family,
        "layer": None if layer == ALL else layer,
        "order": order,
    }


def _families_of(matrix: Matrix, layer: int) -> set[str]:
    return {place.family for place in matrix.places if place.layer == layer}


def values_of(matrix: Matrix, choice: Mapping[str, Any]) -> PairValues:
    """The numbers of what is chosen."""
    return matrix_values(
        matrix,
        choice["measure"],
        choice["k"],
        choice["side"],
        family=choice["family"],
        layer=choice["layer"],
    )


def map_data(
    matrix: Matrix,
    choice: Mapping[str, Any],
    found: PairValues,
    clusters: Clusters,
    selected: tuple[str, str] | None,
) -> dict[str, Any]:
    """What the component draws: members in the order that is chosen, the tree only where it is the clusters'."""
    clustered = choice["order"] == ORDERS[0]
    order = list(clusters.order) if clustered else list(range(len(matrix.members)))
    signed = choice["measure"] == COSINE
    return {
        "names": [matrix.members[at] for at in order],
        "alone": [bool(clusters.alone[at]) for at in order],
        **{name: _packed(getattr(found, name), order) for name in ("values", "expected", "chance", "modules")},
        "branches": [asdict(branch) for branch in clusters.branches] if clustered else [],
        "signed": signed,
        "cut": _cut(found, signed=signed),
        "label": MEASURES[choice["measure"]].lower() if not signed else "cosine of ΔW",
        "title": title_of(choice),
        "name": f"members-{choice['measure']}-{choice['side']}",
        "height": int(min(580, max(220, 60 + 64 * len(order)))),
        "selected": list(selected) if selected else None,
        "palette": viz.PALETTE,
    }


def title_of(choice: Mapping[str, Any]) -> str:
    """The measure, the side and the scope in words."""
    what = MEASURES[choice["measure"]]
    if choice["measure"] == "overlap":
        what += f" at k = {choice['k']}"
    if choice["measure"] != COSINE:
        what += f", {choice['side']} side"
    where = choice["family"] or "all families"
    if choice["layer"] is not None:
        where += ", outside the layers" if choice["layer"] == -1 else f", layer {choice['layer']}"
    return f"{what}: {where}"


def summary(found: PairValues, clusters: Clusters) -> str:
    """How many pairs are beyond chance, and how many of random ones would be."""
    pairs = np.triu(np.isfinite(found.values), 1)
    total, beyond = int(pairs.sum()), int((found.beyond & pairs).sum())
    alone = int(clusters.alone.sum())
    return (
        f"{beyond} of {total} pairs are beyond chance; of random ones {LEVEL * total:.1f} would be."
        f"{f' {alone} adapters share nothing beyond chance with any other.' if alone else ''}"
    )


def _cut(found: PairValues, *, signed: bool) -> float:
    """Where colours are cut: the largest value between different members, and at least twice its chance level."""
    off = ~np.eye(len(found.values), dtype=np.bool_) & np.isfinite(found.values)
    if not off.any():
        return 1.0
    most = max(float(np.abs(found.values[off]).max()), 2 * float(found.chance[off].max()))
    return min(max(most, 1e-9), 1.0) if not signed else max(min(most, 1.0), 1e-9)


def _packed(values: ndarray, order: list[int]) -> str:
    return base64.b64encode(values[np.ix_(order, order)].astype("<f4").tobytes()).decode()


def _pair(matrix: Matrix, given: Any) -> tuple[str, str] | None:
    """Two members of the matrix, where that is what was told."""
    if not isinstance(given, list | tuple) or len(given) != 2:
        return None
    first, second = given
    return (first, second) if first in matrix.members and second in matrix.members else None


def _show_pair(adapters: AdapterSet, matrix: Matrix, pair: tuple[str, str], choice: Mapping[str, Any]) -> None:
    st.markdown(f"**{plain(pair[0])}** against **{plain(pair[1])}**")
    if st.button(
        "Open on Geometry",
        key="matrix-open",
        type="primary",
        help="The first becomes the open adapter, in the place of the one that is open now; the second stands beside it.",
    ):
        open_pair(adapters, pair, choice["family"] or ALL)
    by = st.segmented_control(
        "By", ["Family", "Layer"], default="Family", required=True, key="matrix-by", label_visibility="collapsed"
    )
    table = pair_table(matrix, pair, choice["k"], by)
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        column_config={name: st.column_config.NumberColumn(format="%.4f") for name in table.columns[1:-1]},
    )
    st.caption(f"Overlaps at k = {choice['k']}. What is not above its chance is not distinguishable from random.")


def pair_table(matrix: Matrix, pair: tuple[str, str], k: int, by: str) -> pd.DataFrame:
    """The measures of one pair for each family, or for each layer."""
    both = matrix.of([matrix.members.index(name) for name in pair])
    scopes: list[dict[str, Any]] = (
        [{"family": family} for family in matrix.families]
        if by == "Family"
        else [{"layer": layer} for layer in matrix.layers]
    )
    rows = []
    for scope in scopes:
        (row,) = pair_rows(both, k, **scope)
        label = next(iter(scope.values()))
        told: dict[str, Any] = {by.lower(): "outside" if label == -1 else str(label)}
        rows.append(
            told | {name: row[name] for name in (*_VALUES, *(f"{name}, chance" for name in _VALUES), "modules")}
        )
    return pd.DataFrame(rows)


def open_pair(adapters: AdapterSet, pair: tuple[str, str], family: str) -> None:
    """Show two members on the Geometry page; the first is opened unless it, or the second, is open already."""
    first, second = (adapters[name] for name in pair)
    opened = current().adapter.digest
    if opened == second.digest:
        first, second = second, first
    try:
        if opened != first.digest:
            open_source(str(first.folder))
        opened_beside.clear(str(second.folder))
        opened_beside(str(second.folder))
    except SurgeryError as error:
        show_error(error)
        return
    show_beside(str(second.folder), {} if family == ALL else {"first": family})
    st.switch_page("views/geometry.py")
