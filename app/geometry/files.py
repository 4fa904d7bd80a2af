"""A view of the Geometry page as files: its numbers as CSV, itself as an interactive figure."""

import csv
import io
from typing import Any

import numpy as np

import viz
from app.geometry import LABELS, View, reference_of, values_of
from app.geometry.panels import Panel
from app.geometry.reference import chance, cuts, expected


def table_of(view: View) -> str:
    """Every cell of the view at its k, a row each, in full precision."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(
        ["row", "column", "side", "measure", "k", "value", "random", "ratio", "chance level", "beyond random"]
    )
    for panel in view.panels:
        measure = panel.measure or view.choice.measure
        k = view.choice.k if measure == "overlap" else 1
        values = values_of(view, panel, measure, k)
        for i, module in enumerate(panel.rows):
            d = int(view.table.dimension[module])
            reference, level = expected(d, k, measure), chance(d, k, measure)
            for j, other in enumerate(panel.columns):
                value = float(values[i, j])
                known = np.isfinite(value)
                rows.writerow(
                    [view.modules[module].name, view.modules[other].name, view.choice.side, measure, k]
                    + (
                        [value, reference, value / reference, level, value > level]
                        if known
                        else ["", reference, "", level, ""]
                    )
                )
    return out.getvalue()


def figure_of(view: View) -> Any:
    """The view as an interactive plotly figure."""
    return viz.alignment_heatmaps([_heatmap(view, panel) for panel in view.panels])


def _heatmap(view: View, panel: Panel) -> viz.Heatmap:
    measure = panel.measure or view.choice.measure
    k = view.choice.k if measure == "overlap" else 1
    values, reference = values_of(view, panel, measure, k), reference_of(view, panel, measure, k)
    return viz.Heatmap(
        values,
        panel.row_labels,
        panel.column_labels,
        title=f"{panel.title}, {LABELS[measure]}",
        measure=LABELS[measure],
        reference=reference,
        cut=cuts(values, reference, same=panel.same)["value"],
    )
