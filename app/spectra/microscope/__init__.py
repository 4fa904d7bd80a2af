"""The fold "Inside the component": what it reads, what it writes, and which tokens of which rows make it harmful.

One more pass over a few rows of the calibration, in the background; what it found is stored and found again.
"""

from pathlib import Path
from typing import Any

import streamlit as st

from app.components import component
from app.frame import plain, show_error
from app.running import waits_for
from app.spectra.microscope.payload import payload_of
from app.state import jobs
from app.state.workspace import Workspace
from surgery.data import fetch_source, planned_rows
from surgery.errors import SurgeryError
from surgery.files import file_stamp
from surgery.microscope import Look, Subject, chosen_rows, look_file, refuse_experts, stored_look

KIND = "microscope"
OPEN = "microscope-open"  # in the session: whether the fold is open
_COUNTS = (4, 8, 16, 32)

_mount = component("microscope", Path(__file__).parent, "microscope")


def microscope_panel(workspace: Workspace, module: str, number: int) -> None:
    """The fold for one component; nothing of it is made while it is closed, or before the module is measured."""
    sensitivity = workspace.sensitivity
    if sensitivity is None or module not in sensitivity.values:
        return
    fold = st.expander(
        "Inside the component: what it reads, what it writes, which tokens make it harmful",
        icon=":material/biotech:",
        key=OPEN,
        on_change="rerun",
    )
    if not fold.open:
        return
    with fold:
        if waits_for(KIND, "The look inside is under way. Rows, readings and writings appear here when it ends."):
            return
        try:
            _inside(workspace, module, number)
        except SurgeryError as error:
            show_error(error)


def _inside(workspace: Workspace, module: str, number: int) -> None:
    sensitivity = workspace.sensitivity
    assert sensitivity is not None
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        count = st.selectbox(
            "Rows it harms most and rows it helps most, of either",
            _COUNTS,
            1,
            key="microscope-rows",
            persist_state="session",
            width=320,
        )
        rows = chosen_rows(sensitivity, module, number, count or _COUNTS[1])
        subject = Subject(sensitivity, module, rows)
        file = look_file(subject)
        found = _stored(file, file_stamp(file)) if file.is_file() else None
        blocked = workspace.base is None or workspace.calibration is None
        if found is None and st.button(
            f"Look inside component {number}", type="primary", disabled=blocked, icon=":material/biotech:"
        ):
            _start(workspace, subject)
            st.rerun()
    if found is None:
        st.caption(
            "This runs the base model over rows of the calibration: name the base above, and calibrate."
            if blocked
            else f"One pass of the base model, forwards and backwards, over {len(rows)} rows of the calibration, in the "
            "background. What it finds is stored."
        )
        return
    _mount(key="microscope", data=payload_of(found, number, sensitivity, workspace.spectra[module]))


@st.cache_resource(max_entries=4, show_spinner=False)
def _stored(file: Path, stamp: tuple[int, int, int]) -> Look | None:
    found = stored_look(file)
    if found is None:  # damaged: it is made again
        file.unlink(missing_ok=True)
    return found


def _start(workspace: Workspace, subject: Subject) -> None:
    """Look in the background; what is found is in the store when the page runs again."""
    adapter, spectra = workspace.adapter, workspace.spectra
    refuse_experts(adapter, subject.module)  # before the base model is loaded
    base, plan = workspace.base, workspace.calibration
    assert base is not None
    assert plan is not None

    def work(job: jobs.Job, models: jobs.Models) -> Any:
        from surgery.microscope import look
        from surgery.model import LiveModel

        fetch_source(plan.data, job.control)
        job.begin("reading the rows")
        slice_ = planned_rows(plan)
        job.begin("loading the base model")
        loaded = models.base(base, adapter, job.control)
        job.begin("looking, row")
        with LiveModel(loaded, adapter, spectra) as live:
            return look(live, plan, subject, slice_=slice_, control=job.control)

    jobs.start(KIND, f"Looking inside {plain(subject.module)}", work, lambda _: None)
