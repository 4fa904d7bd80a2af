"""The protected slices below the board: what is expected of them, the tick that spares them, and the front."""

from typing import TYPE_CHECKING, Any

import streamlit as st

import viz
from app.editing.measuring import busy, ready, result_of, show_waiting, start, tuning_rows
from app.frame import plain, show_error
from app.state import jobs
from app.state.workspace import Workspace, keep
from surgery.data import SAMPLED, CalibrationPlan
from surgery.edits import Expectation, edit_record, expected, expected_beside
from surgery.errors import PolicyError

if TYPE_CHECKING:
    from surgery.experiments import Along, FrontPoint

_ALONG: "dict[Along, str]" = {"μ": "the weight μ of what they lose", "ε": "the bound ε on what they lose"}
# knobs of policy protected that differ along a front
_VARIED: "dict[Along, tuple[str, ...]]" = {"μ": ("mu",), "ε": ("mu", "limited", "limit")}


def protect_panel(workspace: Workspace) -> None:
    """Both expectations of the edit, protection of any policy, and the front of policy protected along μ or ε."""
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
def _points(key: str, _workspace: Workspace, along: "Along") -> "tuple[FrontPoint, ...]":
    from surgery.experiments import protected_front

    assert _workspace.sensitivity is not None
    return protected_front(_workspace.plan, _workspace.spectra, _workspace.sensitivity, along=along)


def _front(workspace: Workspace) -> None:
    chosen = st.segmented_control(
        "Front along",
        list(_ALONG),
        default="μ",
        format_func=_ALONG.__getitem__,
        key="front-along",
        persist_state="session",
    )
    along: Along = chosen or "μ"
    record = edit_record(workspace.plan)
    for knob in _VARIED[along]:
        record["knobs"].pop(knob, None)
    try:
        points = _points(f"{workspace.adapter.digest} {workspace.measured_key} {record}", workspace, along)
    except PolicyError as error:  # a file that tells no answer tokens has no bound to keep
        show_error(error)
        return
    _drawn(workspace, points, along)


def _drawn(workspace: Workspace, points: "tuple[FrontPoint, ...]", along: "Along") -> None:
    """The front, a point of it that is taken, and what was measured of it."""
    from surgery.experiments import front_name, front_place

    names = [front_name(point) for point in points]
    slices = [plan.data for plan in workspace.protected]
    shown = st.selectbox("Protected slice", range(len(slices)), format_func=slices.__getitem__, key="front-slice")
    present = front_place(workspace.plan, along)
    picked = st.plotly_chart(
        viz.protected_front(
            names,
            [(p.target.mean, p.target.low, p.target.high) for p in points],
            [(p.protected[shown].mean, p.protected[shown].low, p.protected[shown].high) for p in points],
            title=f"Own slice against the protected one, along {along}",
            chosen=present,
        ),
        key=f"front-{along}",
        on_select="rerun",
        selection_mode="points",
        alt=f"Expected change of the loss on the own and on the protected slice along {along}",
    )
    clicked = [str(point["customdata"]) for point in picked.selection.points if "customdata" in point]
    left, middle, right = st.columns([2, 1, 1], vertical_alignment="bottom")
    name = left.selectbox(
        "Point of the front", names, index=_at(names, clicked, present), key=f"point-{along}-{clicked}"
    )
    if middle.button("Take this point", type="primary", width="stretch"):
        taken = points[names.index(name)].plan
        keep(workspace.with_edit(f"protected, {name}", policy=taken.policy, energy=taken.energy))
        st.rerun()
    if ready(workspace) and right.button("Prove the front", disabled=busy(), width="stretch"):
        start_proof(workspace, points, along)
        st.rerun()
    show_waiting()
    _proven(result_of(_slot(along), workspace, _VARIED[along]))


def _slot(along: "Along") -> str:
    return f"front-{along}"


def _at(names: list[str], clicked: list[str], present: str) -> int:
    wanted = clicked[0].strip("[]'") if clicked else present
    return names.index(wanted) if wanted in names else 0


def start_proof(workspace: Workspace, points: "tuple[FrontPoint, ...]", along: "Along") -> None:
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

    start(workspace, "Front", _slot(along), work, free=_VARIED[along])


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
