"""The protected slices below the board: what is expected of them, the tick that spares them, and the front along μ."""

from typing import TYPE_CHECKING, Any

import streamlit as st

import viz
from app.editing.measuring import busy, ready, result_of, show_waiting, start, tuning_rows
from app.frame import plain
from app.state import jobs
from app.state.workspace import Workspace, keep
from surgery.data import SAMPLED, CalibrationPlan
from surgery.edits import Expectation, edit_record, expected, expected_beside
from surgery.policies import knob_values

if TYPE_CHECKING:
    from surgery.experiments import FrontPoint


def protect_panel(workspace: Workspace) -> None:
    """Both expectations of the edit, protection of any policy, and the front of policy protected."""
    sensitivity = workspace.sensitivity
    if sensitivity is None or not workspace.protected:
        st.caption(
            "No slice is protected. Measure the adapter on rows that the edit is not to hurt (the Spectra page), take "
            "up your own rows again, and press Protect beside the result."
        )
        return
    _expectations(workspace)
    labelled = any(plan.labels != SAMPLED for plan in workspace.protected)
    wanted = st.checkbox(
        "Do not hurt the protected slices: take out of the step what raises their loss",
        workspace.plan.protect,
        key=f"protect-edit-{workspace.plan.protect}",
        disabled=not labelled and not workspace.plan.protect,
        help=None
        if labelled
        else "Answers drawn from the model have no direction that hurts: use policy protected",
    )
    if wanted != workspace.plan.protect:
        label = "spare the protected slices" if wanted else "no protection"
        keep(workspace.with_edit(label, protect=wanted))
        st.rerun()
    _front(workspace)


def _expectations(workspace: Workspace) -> None:
    sensitivity = workspace.sensitivity
    assert sensitivity is not None
    own = expected(workspace.plan, workspace.spectra, sensitivity, workspace.edit)
    beside = expected_beside(workspace.plan, workspace.spectra, sensitivity, workspace.edit)
    cells = st.columns(1 + len(beside))
    if own is not None:
        _metric(cells[0], "Expected, own slice", own)
    for cell, plan, each in zip(cells[1:], workspace.protected, beside, strict=True):
        kind = "divergence" if plan.labels == SAMPLED else "expected"
        _metric(cell, f"Protected, {kind}: {plain(plan.data)}", each)


def _metric(cell: Any, label: str, found: Expectation) -> None:
    certain = found.low > 0 or found.high < 0
    cell.metric(
        label,
        f"{found.mean:+.4f}",
        f"{found.low:+.4f} to {found.high:+.4f}" if certain else "within noise",
        delta_color="off",
        delta_arrow="off",
        help=plain(". ".join(found.doubts)) or None,
    )


@st.cache_data(max_entries=8, show_spinner=False)
def _points(key: str, _workspace: Workspace) -> "tuple[FrontPoint, ...]":
    from surgery.experiments import protected_front

    assert _workspace.sensitivity is not None
    return protected_front(_workspace.plan, _workspace.spectra, _workspace.sensitivity)


def _front(workspace: Workspace) -> None:
    from surgery.experiments import front_name

    record = edit_record(workspace.plan)
    record["knobs"].pop("mu", None)  # the front varies it
    points = _points(f"{workspace.adapter.digest} {workspace.measured_key} {record}", workspace)
    names = [front_name(point) for point in points]
    slices = [plan.data for plan in workspace.protected]
    shown = st.selectbox("Protected slice", range(len(slices)), format_func=slices.__getitem__, key="front-slice")
    present = f"μ {knob_values(workspace.plan.policy).get('mu', -1):g}"
    picked = st.plotly_chart(
        viz.protected_front(
            names,
            [(p.target.mean, p.target.low, p.target.high) for p in points],
            [(p.protected[shown].mean, p.protected[shown].low, p.protected[shown].high) for p in points],
            title="Own slice against the protected one, along μ",
            chosen=present,
        ),
        key="front",
        on_select="rerun",
        selection_mode="points",
    )
    clicked = [str(point["customdata"]) for point in picked.selection.points if "customdata" in point]
    left, middle, right = st.columns([2, 1, 1], vertical_alignment="bottom")
    name = left.selectbox("Point of the front", names, index=_at(names, clicked, present), key=f"point-{clicked}")
    if middle.button("Take this point", type="primary", width="stretch"):
        chosen = points[names.index(name)].plan
        keep(workspace.with_edit(f"protected, {name}", policy=chosen.policy, energy=chosen.energy))
        st.rerun()
    if ready(workspace) and right.button("Prove the front", disabled=busy(), width="stretch"):
        start_proof(workspace, points)
        st.rerun()
    show_waiting()
    _proven(result_of("front", workspace, "mu"))


def _at(names: list[str], clicked: list[str], present: str) -> int:
    wanted = clicked[0].strip("[]'") if clicked else present
    return names.index(wanted) if wanted in names else 0


def start_proof(workspace: Workspace, points: "tuple[FrontPoint, ...]") -> None:
    """Measure five points of the front on rows of every slice with answers that shaped no edit."""
    sensitivity, tuning = workspace.sensitivity, tuning_rows(workspace)
    fresh = {"own": tuning, **{plan.data: _fresh(plan) for plan in workspace.protected if plan.labels != SAMPLED}}

    def work(live: Any, job: jobs.Job) -> Any:
        from surgery.experiments import measure_front
        from surgery.sensitivity import calibration_slice

        assert sensitivity is not None
        slices = {name: calibration_slice(live, plan) for name, plan in fresh.items()}
        job.begin("measuring the front")
        return measure_front(live, points, sensitivity, slices, control=job.control)

    start(workspace, "Front", "front", work, free="mu")


def _fresh(plan: CalibrationPlan) -> CalibrationPlan:
    """The rows of a protected slice's own source that nothing was measured on, chosen as for tuning."""
    from surgery.experiments import tuning_plan

    return tuning_plan(plan)


def _proven(result: Any) -> None:
    if result is None:
        return
    rows = [
        {"slice": name, "point": point, "measured Δ loss": effect.mean, "low": effect.low, "high": effect.high}
        for name, effects in result.items()
        for point, effect in effects.items()
    ]
    st.dataframe(rows, hide_index=True, key="front-proof")
