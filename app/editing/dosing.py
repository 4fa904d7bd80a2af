"""The dose curve in the bench: the strength of the edit against measured loss and answers, a plain scale beside it."""

from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

import viz
from app.editing.measuring import busy, ready, result_of, show_waiting, start, tuning_rows
from app.state import jobs
from app.state.workspace import Workspace
from surgery.evaluation import Effect, Metric

if TYPE_CHECKING:
    from surgery.experiments import DoseCurve


def dose_panel(workspace: Workspace) -> None:
    """One button, and what it measured: a figure a metric, and the table."""
    from surgery.experiments import DOSES

    st.caption(
        f"Strengths {', '.join(f'{dose:g}' for dose in DOSES)}, named in advance, on tuning rows: loss and answers of the "
        "edit, and of a plain scale that has the edit's size at every dose. Where the two curves agree, size is all there is."
    )
    if not ready(workspace):
        return
    if st.button("Measure the dose curve", type="primary", disabled=busy()):
        start_dosing(workspace)
        st.rerun()
    show_waiting()
    found: DoseCurve | None = result_of("dosed", workspace)
    if found is not None:
        show_curve(found)


def start_dosing(workspace: Workspace) -> None:
    """Measure the curve in the background."""
    tuning = tuning_rows(workspace)

    def work(live: Any, job: jobs.Job) -> Any:
        from surgery.experiments import TuningSetup, dose_curve
        from surgery.sensitivity import calibration_slice

        slice_ = calibration_slice(live, tuning)
        job.begin("measuring doses")
        setup = TuningSetup(live, slice_, workspace.sensitivity)
        return dose_curve(setup, workspace.plan, control=job.control)

    start(workspace, "Dose curve", "dosed", work)


def show_curve(found: "DoseCurve") -> None:
    """A figure for each metric, and the table with its CSV."""
    doses = [point.dose for point in found.points]
    for column, metric in zip(st.columns(len(found.metrics)), found.metrics, strict=True):
        edit, scale = (
            _band([getattr(point, which)[metric.name] for point in found.points], metric)
            for which in ("edit", "scale")
        )
        column.plotly_chart(
            viz.dose_response(doses, edit, scale, title=f"Change of {metric.title}", unit=metric.unit),
            key=f"dose-{metric.name}",
            alt=f"Change of {metric.title} of the edit and of a plain scale along the strength",
        )
    st.caption(
        f"{found.examples} tuning rows; lines are 95 % intervals, paired with the unedited adapter. The plain scale: "
        f"{found.control}."
    )
    table = dose_table(found)
    st.dataframe(table, hide_index=True, width="stretch", key="dose-table")
    st.download_button(
        "Download as CSV",
        table.to_csv(index=False),
        "dose_curve.csv",
        "text/csv",
        on_click="ignore",
        key="dose-csv",
        icon=":material/download:",
    )


def dose_table(found: "DoseCurve") -> pd.DataFrame:
    """A row for each dose: changes by metric of the edit and of the plain scale, with their standard errors."""
    rows = []
    for point in found.points:
        row: dict[str, object] = {"strength": point.dose}
        for metric in found.metrics:
            for which in ("edit", "scale"):
                effect: Effect = getattr(point, which)[metric.name]
                factor, digits = (100, 1) if metric.binary else (1, 4)
                row[f"Δ {metric.title}, {which}"] = (
                    f"{factor * effect.mean:+.{digits}f} ± {factor * effect.standard_error:.{digits}f}"
                )
        rows.append(row)
    return pd.DataFrame(rows)


def _band(effects: list[Effect], metric: Metric) -> tuple[list[float], list[float], list[float]]:
    factor = 100 if metric.binary else 1
    means, lows, highs = (
        [factor * getattr(effect, each) for effect in effects] for each in ("mean", "low", "high")
    )
    return means, lows, highs
