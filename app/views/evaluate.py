"""Evaluate: the edit and its controls on held-out examples, paired with the unedited adapter."""

import streamlit as st

from app import jobs
from app.frame import ask_for_calibration, plain, show_error, show_title
from app.proving.asking import KIND, SHOWN, VIEW, form
from app.proving.diagnosing import show_diagnostics
from app.proving.history import show_history
from app.proving.results import show_results
from app.proving.samples import show_samples
from app.stored_runs import all_runs, evaluation_of, newest_proof, runs_of_edit
from app.workspace import Workspace, current
from surgery.errors import SurgeryError
from surgery.runs import Run

VIEWS = ("Results", "Answers", "Diagnostics", "History")


def ask_panel(workspace: Workspace) -> None:
    if jobs.active(KIND) is not None:
        jobs.show_progress(KIND)
        return
    if workspace.base is None or workspace.calibration is None:
        st.info(
            "Choose a base model on the Adapter page and calibrate on the Spectra page.", icon=":material/info:"
        )
        return
    if workspace.lacks_sensitivities:
        ask_for_calibration(workspace)
        return
    form(workspace, newest_proof(workspace))
    unfinished = [run for run in runs_of_edit(workspace) if not run.finished]
    if unfinished:
        run = unfinished[0]
        st.caption(
            f"A proof on {plain(run.plan.slice_name)} was cut off; asked again as it was, it goes on with what is there."
        )


def shown_run(workspace: Workspace) -> Run | None:
    """The run that was picked, as long as it is there; else the newest proof of the present edit."""
    picked = st.session_state.get(SHOWN)
    run = next((run for run in all_runs() if run.plan.key == picked and run.finished), None)
    if run is not None and run.plan.adapter_digest == workspace.adapter.digest:
        return run
    return newest_proof(workspace)


def results_panel(workspace: Workspace) -> None:
    view = st.segmented_control(
        "View",
        VIEWS,
        default=VIEWS[0],
        required=True,
        key=VIEW,
        label_visibility="collapsed",
        persist_state="session",
    )
    if view == "History":
        show_history(workspace)
        return
    run = shown_run(workspace)
    if run is None:
        st.caption("Nothing has been proven about this edit yet. Earlier runs stand under History.")
        return
    if run.plan.key not in {each.plan.key for each in runs_of_edit(workspace, run.plan.purpose)}:
        st.warning("This run is about another edit than the present one.", icon=":material/history:")
    try:
        if view == "Results":
            show_results(evaluation_of(run), _title(run), run.plan.key)
        elif view == "Answers":
            show_samples(evaluation_of(run), run.plan.key)
        else:
            show_diagnostics(workspace, run)
    except SurgeryError as error:
        show_error(error)


def _title(run: Run) -> str:
    return f"{run.plan.slice_name}, {run.started:%Y-%m-%d %H:%M}" + (", shipped" if run.shipped else "")


show_title(
    "Evaluate", "Does the edit help on examples it has never seen, and more than a random edit of the same size?"
)
try:
    ask_panel(current())
except SurgeryError as error:
    show_error(error)
results_panel(current())
