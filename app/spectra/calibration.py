"""The calibration panel: which rows are measured, how long that takes, and what is measured already."""

from collections.abc import Sequence

import streamlit as st

from app.base_form import base_form
from app.frame import plain, show_error
from app.rows_form import read_rows
from app.running import waits_for
from app.spectra.calibration_rows import number_controls, rows_controls, show_rows
from app.spectra.stored_calibrations import KIND, list_stored, matching, start_calibration, stored_of, take_up
from app.spectra.token_rows import show_notes, show_tokens
from app.state import jobs
from app.state.workspace import Workspace, current
from surgery.data import (
    CLASSIFIERS,
    SAMPLED,
    CalibrationPlan,
    NotFetchedError,
    Row,
    Slice,
    SourceRows,
    left_out_text,
    plan_record,
    planned_rows,
)
from surgery.errors import SurgeryError
from surgery.files import digest
from surgery.model import BaseChoice, other_base_note, refuse_task
from surgery.progress import duration
from surgery.sensitivity import Measurement, Sensitivity, characters, doubts, known_pace

CALIBRATE = "Calibrate with these settings"


def calibration_panel(workspace: Workspace) -> None:
    """What is measured, the way to measure more, and the results that are stored."""
    if waits_for(
        KIND, "The calibration is under way. The sensitivities appear in the figures below when it ends."
    ):
        return
    if refused(workspace):
        return
    stored = stored_of(workspace.adapter.digest)
    listed = f"Stored results ({len(stored)})"
    if workspace.base is None:
        st.info(
            "The sensitivities, how much each singular value raises or lowers the loss, are measured with the base "
            "model. Name it here; the singular values below need none.",
            icon=":material/science:",
        )
        base_form(workspace)
    if workspace.sensitivity is not None:
        # one line, so that the figures below it stay in sight
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            st.markdown(_measured_text(workspace.sensitivity, workspace.adapter.task), width="stretch")
            _again(workspace)
            if stored and st.button(listed, icon=":material/inventory_2:"):
                _all_stored()
        show_notes([*_other_base(workspace), *doubts(workspace.sensitivity)])
        return
    if workspace.base is not None:
        with st.expander("Calibrate", expanded=True, icon=":material/science:"):
            plan_controls()
    if stored:
        with st.expander(listed, icon=":material/inventory_2:"):
            list_stored(workspace, stored)


def _other_base(workspace: Workspace) -> list[str]:
    """What is to be told where the base model has another name than the one that the adapter asks for."""
    location = workspace.base.location if workspace.base is not None else ""
    return list(filter(None, [other_base_note(workspace.adapter.base_name, location, "")]))


def refused(workspace: Workspace) -> bool:
    """Whether the adapter is of a task that no model is run for, which is told then with what still works."""
    try:
        refuse_task(workspace.adapter.task)
    except SurgeryError as error:
        st.info(plain(str(error)), icon=":material/info:")
        return True
    return False


def _again(workspace: Workspace) -> None:
    """The buttons that measure anew; what shipped is replaced with one click, by the same settings."""
    base, plan, sensitivity = workspace.base, workspace.calibration, workspace.sensitivity
    if base is None:
        return
    shipped = sensitivity is not None and sensitivity.shipped
    if st.button("Calibrate again", icon=":material/science:"):
        if not shipped or plan is None:
            _calibrate_again()
        else:
            start_calibration(workspace, base, plan)
            st.rerun()
    if shipped and st.button("Other settings", icon=":material/tune:"):
        _calibrate_again()


def _measured_text(sensitivity: Sensitivity, task: str) -> str:
    dropped = left_out_text(sensitivity.left_out)
    how = "Shipped with the demo, measured" if sensitivity.shipped else "Measured"
    return (
        f":material/science: {how} on {sensitivity.examples} examples; mean calibration loss "
        f"{sensitivity.losses.mean():.4f} nats per {'label' if task in CLASSIFIERS else 'answer token'}."
        + (f" {plain(dropped)}." if dropped else "")
    )


@st.dialog("Calibrate", width="large")
def _calibrate_again() -> None:
    plan_controls()


@st.dialog("Stored results", width="large")
def _all_stored() -> None:
    workspace = current()
    list_stored(workspace, stored_of(workspace.adapter.digest))


@st.fragment
def plan_controls() -> None:
    """The plan to measure, what its rows are, how long they take, and the button that starts it."""
    workspace = current()
    present = workspace.calibration or CalibrationPlan("")
    # another plan, as one taken up from the store, is to show its own settings
    key = f"calibrate-{digest([workspace.adapter.digest, repr(plan_record(present))])[:8]}"
    try:
        data, fields = rows_controls(present, key)
        refusal = None
    except SurgeryError as error:
        data, fields, refusal = "", present.fields, error
    try:
        plan = number_controls(present, key, data, fields, workspace.adapter.task)
    except SurgeryError as error:
        show_error(error)
        return
    if workspace.base is not None:
        found, slice_ = start_button(workspace, workspace.base, plan, key, refusal)
        if found is not None:
            show_rows(found)
        if slice_ is not None:
            show_tokens(workspace.adapter, workspace.base, plan, slice_, key)


def start_button(
    workspace: Workspace, base: BaseChoice, plan: CalibrationPlan, key: str, refusal: SurgeryError | None = None
) -> tuple[SourceRows | None, Slice | None]:
    """The button that measures `plan`, and how long that takes; returns what is known of its source and its rows.

    What is stored of the plan is gone on with, or used as it is. What `refusal` or the rows have against the
    plan is shown instead.
    """
    slice_, found, fetched = None, None, True
    if refusal is None and plan.data:
        try:
            found = read_rows(plan.data, plan.fields)
            slice_ = planned_rows(plan, found)
        except NotFetchedError:
            fetched = False
        except SurgeryError as error:
            refusal = error
    stored = [each for each in stored_of(workspace.adapter.digest) if not each.shipped]
    part = matching(stored, base, plan)
    press, told = st.columns([1, 3], vertical_alignment="center")
    startable = refusal is None and bool(plan.data) and (slice_ is not None or not fetched)
    idle = _complete(part) and plan.labels == SAMPLED and _kept_already(workspace, plan)
    if press.button(
        _start_label(part, plan),
        key=f"{key}-go",
        type="primary",
        width="stretch",
        disabled=not startable or idle or jobs.active(KIND) is not None,
    ):
        if _complete(part):
            assert part is not None
            take_up(workspace, plan, part)
        else:
            start_calibration(workspace, base, plan)
            st.rerun()
    if refusal is not None:
        show_error(refusal)
    elif not plan.data:
        told.caption("Name the rows to measure.")
    elif not fetched:
        told.caption(
            "This dataset is not on this machine yet: it is fetched first. Time: unknown until the first batch."
        )
    elif slice_ is not None:
        told.caption(_time_text(base, plan, slice_.rows, part) + _drawn_text(workspace, plan))
    return found, slice_


def _kept_already(workspace: Workspace, plan: CalibrationPlan) -> bool:
    """Whether a stored result with drawn answers cannot be taken up: protected already, or without a slice to edit for."""
    return workspace.sensitivity is None or plan in workspace.protected


def _drawn_text(workspace: Workspace, plan: CalibrationPlan) -> str:
    """Where the result goes if its answers are drawn from the model."""
    if plan.labels != SAMPLED:
        return ""
    if workspace.sensitivity is None:
        return " It waits among the stored results until there is a slice to edit for; then protect it there."
    if plan in workspace.protected:
        return " It is protected."
    return " It is kept beside the slice to edit for, as a protected one."


def _start_label(part: Measurement | None, plan: CalibrationPlan) -> str:
    if part is None:
        return CALIBRATE
    if part.finished:
        use = "Protect the stored result" if plan.labels == SAMPLED else "Use the stored result"
        return use if _complete(part) else CALIBRATE
    return f"Resume ({part.done} of {part.examples} done)"


def _complete(found: Measurement | None) -> bool:
    """Whether a stored result has all that is measured now; those of earlier versions lack what enters the modules."""
    return found is not None and found.finished and found.inputs


def _time_text(base: BaseChoice, plan: CalibrationPlan, rows: Sequence[Row], part: Measurement | None) -> str:
    """How long it takes, by the pace of earlier runs and nothing else."""
    if _complete(part):
        return "This is measured already."
    pace = known_pace(base, plan)
    if pace is None:
        return (
            "Time: unknown until the first batch, as no run on this base model with this kind of prompt is known; "
            "then the line at the top of every page tells it."
        )
    if part is not None and not part.finished:
        seconds = part.tokens_left / pace.tokens_per_second
    else:
        seconds = pace.seconds(len(rows), characters(rows))
    return (
        f"Time: about {duration(seconds)} once the base model is loaded, by the {pace.tokens_per_second:,.0f} tokens a "
        "second of the last run on it."
    )
