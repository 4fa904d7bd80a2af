"""Geometry: how the directions of modules align across layers and between families."""

import numpy as np
import pandas as pd
import streamlit as st

import viz
from app.frame import show_error, show_title
from app.workspace import Workspace, current
from surgery.alignment import DEFAULT_K, Alignment, layer_invariance, module_synergy
from surgery.errors import PolicyError

VIEWS = {"invariance": "Layer invariance", "synergy": "Module synergy"}
MEASURES = {"overlap": "Subspace overlap", "principal": "Leading direction"}
SIDES = {"output": "Output (U)", "input": "Input (V)"}


def controls(workspace: Workspace) -> tuple[str, str, str, str, int, str]:
    families = list(workspace.adapter.families)
    view = _segments("View", VIEWS, "geometry-view")
    measure = _segments("Measure", MEASURES, "geometry-measure")
    side = _segments("Space", SIDES, "geometry-side")
    left, right = st.columns(2)
    first = left.selectbox(
        "Family", families, index=_index(families, "o_proj"), persist_state="session", key="geometry-first"
    )
    second = right.selectbox(
        "Against",
        families,
        index=_index(families, "down_proj"),
        disabled=view == "invariance",
        key="geometry-second",
        persist_state="session",
    )
    compared = (first,) if view == "invariance" else (first, second)
    largest = min(s.rank for s in workspace.spectra.values() if s.family in compared)
    k = st.slider(
        "k, leading directions compared",
        1,
        max(largest, 2),
        min(DEFAULT_K, largest),
        disabled=measure == "principal",
        key="geometry-k",
        persist_state="session",
    )
    return view, measure, side, first, k, second


def show(alignment: Alignment, view: str, measure: str, side: str, names: tuple[str, str], k: int) -> None:
    """The map in the wide column, its numbers under the controls."""
    label = "overlap" if measure == "overlap" else "|cosine|"
    what = f"top-{k} subspaces" if measure == "overlap" else "leading directions"
    title = f"{names[0]} across layers" if view == "invariance" else f"{names[0]} against {names[1]}"
    rows, columns = _layers(alignment.rows), _layers(alignment.columns)
    figure = viz.alignment_heatmap(
        alignment.values,
        rows,
        columns,
        title=f"{title}: {what}, {side} space",
        measure=label,
        reference=alignment.reference,
        x="layer" if view == "invariance" else f"{names[1]} layer",
        y="layer" if view == "invariance" else f"{names[0]} layer",
    )
    map_side.plotly_chart(figure, key="geometry-map", alt=f"{title}, heatmap of {label}")
    with control_side:
        _numbers(alignment, view, label)
        if view == "synergy":
            curve = viz.depth_curve(
                [int(layer) for layer in rows],
                np.diag(alignment.values),
                title="Inside each layer",
                measure=label,
                reference=alignment.reference,
            )
            st.plotly_chart(curve, key="geometry-curve", alt=f"{label} of both families inside each layer")
        table = pd.DataFrame(alignment.values, index=list(alignment.rows), columns=list(alignment.columns))
        st.download_button("Download as CSV", table.to_csv(), "alignment.csv", "text/csv", on_click="ignore")


def _numbers(alignment: Alignment, view: str, label: str) -> None:
    values = alignment.values
    other = (
        values[~np.eye(len(values), dtype=bool)] if view == "invariance" and len(values) > 1 else np.diag(values)
    )
    where = "between different layers" if view == "invariance" else "inside a layer"
    cells = st.columns(2)
    cells[0].metric(f"Mean {label}", f"{other.mean():.3f}", help=f"Mean {where}.")
    cells[1].metric("Against random", f"{other.mean() / alignment.reference:.1f}×")
    st.caption(
        f"{where.capitalize()}. Two random subspaces of {alignment.dimension} dimensions would give "
        f"{alignment.reference:.4f} in expectation. Colours are cut at the largest value between different "
        "modules, so that a module's match with itself does not hide the rest."
    )


def _segments(label: str, options: dict[str, str], key: str) -> str:
    chosen = st.segmented_control(
        label,
        list(options),
        default=next(iter(options)),
        format_func=options.get,
        key=key,
        persist_state="session",
    )
    return chosen or next(iter(options))


def _layers(names: tuple[str, ...]) -> list[str]:
    spectra = current().spectra
    return [str(spectra[name].layer) if spectra[name].layer is not None else name for name in names]


def _index(families: list[str], wanted: str) -> int:
    return families.index(wanted) if wanted in families else 0


show_title("Geometry", "Do layers and modules write into the same directions, or does each go its own way?")
workspace = current()
control_side, map_side = st.columns([1, 2], gap="large")
with control_side:
    view, measure, side, first, k, second = controls(workspace)
try:
    if view == "invariance":
        found = layer_invariance(workspace.spectra, first, measure=measure, k=k, side=side)
    else:
        found = module_synergy(workspace.spectra, first, second, measure=measure, k=k, side=side)
except PolicyError as error:
    with map_side:
        show_error(error)
else:
    show(found, view, measure, side, (first, second), k)
