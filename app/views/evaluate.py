"""Evaluate: the edit and its controls on held-out examples, paired with the unedited adapter."""

import streamlit as st

from app.evaluation.ablations import show_diagnostics
from app.evaluation.answers import show_near
from app.evaluation.form import VIEW, form
from app.evaluation.guards import show_guards
from app.evaluation.ledger import show_ledger
from app.evaluation.reporting import report_button
from app.evaluation.results import show_results
from app.evaluation.runs_table import show_history
from app.evaluation.samples import show_samples
from app.evaluation.starting import KIND, SHOWN
from app.frame import plain, show_error, show_title
from app.offer import offer_calibration
from app.running import waits_for
from app.state.runs import all_runs, evaluation_of, newest_proof, runs_of_edit
from app.state.workspace import Workspace, current
from surgery.data import NearDuplicate
from surgery.errors import SurgeryError
from surgery.runs import Run

VIEWS = ("Results", "Answers", "Diagnostics", "History")
EMPTY = {
    "Results": "Nothing has been proven about this edit yet. Here come its changes with 95 % intervals, and its place "
    "among the random controls.",
    "Answers": "Here come the answers to every example side by side, once the edit has been proven.",
    "Diagnostics": "Here come the paper's ablations, a button each, on the slice of a proof.",
}


def ask_panel(workspace: Workspace) -> None:
    if waits_for(KIND, "A run is under way. What it finds appears below when it ends."):
        return
    if workspace.recipe is None or workspace.lacks_sensitivities:
        offer_calibration(
            workspace,
            "The edit is proven here: the unedited adapter, the edit and its random controls answer held-out examples, "
            "and every difference has its interval.",
        )
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
    left, right = st.columns([5, 1], vertical_alignment="center")
    view = left.segmented_control(
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
        way = "Press *Prove it* above." if workspace.recipe and not workspace.lacks_sensitivities else ""
        st.caption(f"{EMPTY[view]} {way} Earlier runs stand under History.")
        return
    if run.plan.key not in {each.plan.key for each in runs_of_edit(workspace, run.plan.purpose)}:
        st.warning("This run is about another edit than the present one.", icon=":material/history:")
    try:
        evaluation = evaluation_of(run)
        report_button(right, (run, evaluation), "shown")
        if view == "Results":
            show_results(evaluation, _title(run), run.plan.key)
            show_ledger(run)
            _show_near(run)
            show_guards(run)
        elif view == "Answers":
            show_samples(evaluation, run.plan.key)
        else:
            show_diagnostics(workspace, run)
    except SurgeryError as error:
        show_error(error)


def _show_near(run: Run) -> None:
    """The near-duplicates that were allowed for a run."""
    pairs = [NearDuplicate(**pair) for pair in run.plan.question.get("near_duplicates", ())]
    if pairs:
        with st.expander(f"{len(pairs)} near-duplicates, allowed for this run"):
            show_near(pairs, run.plan.key)


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
