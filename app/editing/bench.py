"""Below the board: measure what is predicted, the dose curve, sweep a knob, and further tabs."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import streamlit as st

import viz
from app.editing.dosing import dose_panel
from app.editing.measuring import busy, ready, result_of, show_waiting, start, tuning_rows
from app.editing.protecting import protect_panel
from app.editing.recipes import recipe_panel
from app.editing.searching import search_panel
from app.editing.trying import try_panel
from app.frame import show_error
from app.state import jobs
from app.state.workspace import Workspace
from surgery.edits import preview
from surgery.errors import SurgeryError
from surgery.evaluation import Effect
from surgery.policies import Knob, knob_values, knobs_of

if TYPE_CHECKING:
    from surgery.experiments import KnobPoint


def bench(workspace: Workspace) -> None:
    """The folded tools of the Surgery page; each knows what it still needs."""
    names = ["Measure", "Protect", "Dose curve", "Sweep a knob", "Search", "Try it", "Recipe"]
    tabs = st.tabs(names, on_change="rerun", key="bench-tab")
    panels: tuple[Callable[[Workspace], None], ...] = (
        measure_panel,
        protect_panel,
        dose_panel,
        sweep_panel,
        search_panel,
        try_panel,
        recipe_panel,
    )
    for tab, panel in zip(tabs, panels, strict=True):
        if tab.open:
            with tab:
                try:
                    panel(workspace)
                except SurgeryError as error:
                    show_error(error)


def measure_panel(workspace: Workspace) -> None:
    st.caption(
        "First-order and expected come from the stored sensitivities. Measured runs the model: on the calibration rows, "
        "where it tests the first, and on tuning rows that the sensitivities have not seen, where it tests the second."
    )
    if not ready(workspace):
        return
    if st.button("Measure this edit", type="primary", disabled=busy()):
        start_measuring(workspace)
        st.rerun()
    show_waiting()
    result = result_of("measured", workspace)
    if result is None:
        return
    numbers = preview(workspace.edit, workspace.sensitivity)
    cells = st.columns(4)
    if numbers is not None:
        cells[0].metric(
            "First-order, calibration rows", f"{numbers.predicted:+.4f} ± {numbers.standard_error:.4f}"
        )
    told = workspace.expectation
    if told is not None:
        cells[2].metric("Expected, held-out rows", f"{told.mean:+.4f} ± {told.standard_error:.4f}")
    for cell, (name, effects) in zip((cells[1], cells[3]), result.items(), strict=False):
        effect: Effect = effects["edit"]
        cell.metric(
            f"Measured, {name} rows",
            f"{effect.mean:+.4f} ± {effect.standard_error:.4f}",
            "within noise" if not effect.certain else "lower is better",
            delta_color="off",
            delta_arrow="off",
        )


def start_measuring(workspace: Workspace) -> None:
    edit, tuning = workspace.edit, tuning_rows(workspace)

    def work(live: Any, job: jobs.Job) -> Any:
        from surgery.experiments import measure_edits
        from surgery.sensitivity import calibration_slice

        assert workspace.calibration is not None
        slices = {
            "calibration": calibration_slice(live, workspace.calibration),
            "tuning": calibration_slice(live, tuning),
        }
        job.begin("measuring")
        return measure_edits(live, slices, {"edit": edit}, control=job.control)

    start(workspace, "Measuring", "measured", work)


def sweep_panel(workspace: Workspace) -> None:
    values_now = knob_values(workspace.plan.policy)
    sliding = [knob for knob in knobs_of(workspace.plan.policy) if knob.slides and knob.matters(values_now)]
    if not sliding:
        st.caption("This policy has no knob to sweep.")
        return
    if not ready(workspace):
        return
    left, middle, right = st.columns([2, 1, 1], vertical_alignment="bottom")
    name = left.selectbox("Knob", [knob.name for knob in sliding], key="sweep-knob", persist_state="session")
    count = middle.number_input("Values", 3, 25, 9, key="sweep-count")
    knob = next((knob for knob in sliding if knob.name == name), sliding[0])
    if right.button("Sweep", type="primary", disabled=busy(), width="stretch"):
        start_sweep(workspace, knob, int(count))
        st.rerun()
    show_waiting()
    result = result_of("swept", workspace, (knob.name,))
    if result is not None:
        show_sweep(*result)


def start_sweep(workspace: Workspace, knob: Knob, count: int) -> None:
    from surgery.experiments import TuningSetup, sweep_knob, sweep_values

    rank = max(module.sigma.size for module in workspace.edit.modules.values())
    values = sweep_values(knob, count, high=rank if knob.components else None)
    tuning = tuning_rows(workspace)

    def work(live: Any, job: jobs.Job) -> Any:
        from surgery.sensitivity import calibration_slice

        slice_ = calibration_slice(live, tuning)
        job.begin(f"sweeping {knob.name}")
        setup = TuningSetup(live, slice_, workspace.sensitivity)
        points = sweep_knob(setup, workspace.plan, knob.name, values, control=job.control)
        return knob.name, points

    start(workspace, "Sweep", "swept", work, free=(knob.name,))


def show_sweep(swept: str, found: "Sequence[KnobPoint]") -> None:
    """The curve of the loss along the knob that was swept."""
    st.plotly_chart(
        viz.sweep_curve(
            [point.value for point in found],
            [point.measured.mean for point in found],
            [point.measured.low for point in found],
            [point.measured.high for point in found],
            [point.predicted.predicted if point.predicted else None for point in found],
            title=f"Loss along {swept}",
            knob=swept,
        ),
        key="sweep-figure",
        alt=f"Measured and predicted change of the loss along {swept}",
    )
    st.caption("Grey points are within noise: their 95 % interval holds zero. The rest of the plan was kept.")
