"""The paper's diagnostics on the present edit: a button each for Tables 3 to 5 and Figures 3 and 4."""

from dataclasses import replace

import streamlit as st

import viz
from app.evaluation import proven_edits as own_runs
from app.evaluation.results import show_results
from app.evaluation.slice import Question, question_of
from app.evaluation.starting import KIND, start
from app.frame import plain, show_error
from app.state import jobs
from app.state.runs import evaluation_of, runs_of_edit
from app.state.workspace import Workspace
from surgery.data import EvaluationPlan
from surgery.errors import SurgeryError
from surgery.evaluation import is_random_control
from surgery.experiments import DIAGNOSTICS, EDIT, ControlledEdits, Diagnostic, rules_of, with_controls
from surgery.files import demo_names, demo_slice, is_demo
from surgery.runs import PROOF, Run

DIAGNOSTIC = "diagnostic"  # in the session: which of them the page shows
_FIGURES = {"figure 3": "Figure 3 · signal", "figure 4": "Figure 4 · risk"}


def show_diagnostics(workspace: Workspace, run: Run) -> None:
    """One view at a time; each fills from runs of the history, and has a button for the run that it lacks."""
    titles = {each.purpose: f"Table {each.table} · {each.title.lower()}" for each in DIAGNOSTICS} | _FIGURES
    chosen = st.segmented_control(
        "Diagnostic",
        list(titles),
        default=DIAGNOSTICS[0].purpose,
        required=True,
        format_func=titles.__getitem__,
        key=DIAGNOSTIC,
        label_visibility="collapsed",
        persist_state="session",
    )
    if chosen == "figure 3":
        _signal(workspace, run)
    elif chosen == "figure 4":
        _risk(workspace, run)
    else:
        _table(workspace, run, next(each for each in DIAGNOSTICS if each.purpose == chosen))


def _table(workspace: Workspace, run: Run, diagnostic: Diagnostic) -> None:
    st.caption(f"{diagnostic.question} On the slice of the proof shown: {plain(run.plan.slice_name)}.")
    found = [each for each in runs_of_edit(workspace, diagnostic.purpose) if each.plan.asked == run.plan.asked]
    finished = next((each for each in found if each.finished), None)
    if finished is None:
        label = f"Fill Table {diagnostic.table}"
        if found:
            label = f"Go on with Table {diagnostic.table}"
        if st.button(label, type="primary", icon=":material/play_arrow:", disabled=_busy()):
            try:
                variants = diagnostic.variants(workspace.spectra, workspace.plan, workspace.sensitivity)
                edits = ControlledEdits(variants.edits, {})
                start(question_of(run), edits, variants.plans, purpose=diagnostic.purpose)
            except SurgeryError as error:
                show_error(error)
                return
            st.rerun()
        return
    try:
        show_results(
            evaluation_of(finished), f"Table {diagnostic.table}, {run.plan.slice_name}", diagnostic.purpose
        )
        variants = diagnostic.variants(workspace.spectra, workspace.plan, workspace.sensitivity)
        for name, reason in variants.left_out.items():
            st.caption(f"{plain(name)} is left out: {plain(reason)}")
    except SurgeryError as error:
        show_error(error)


def _signal(workspace: Workspace, run: Run) -> None:
    st.caption("What the edit gains against what random gates gain: on the diagonal, any disturbance would do.")
    points = own_runs.signals(own_runs.proven_edits(workspace))
    if points:
        st.plotly_chart(
            viz.signal_against_control(
                [], [], [], [], title="Gain against random gain", policy=workspace.plan.policy.name, own=points
            ),
            key="diagnostic-figure-3",
            alt="Gain of each proven edit against the gain of its random controls",
        )
    else:
        st.info("No proof of this adapter has random controls and right answers to count.", icon=":material/info:")
    if not any(map(is_random_control, run.plan.variants)) and st.button(
        "Run 16 random controls", type="primary", icon=":material/play_arrow:", disabled=_busy()
    ):
        try:
            start(question_of(run), _beside(workspace), {EDIT: workspace.plan}, purpose=PROOF)
        except SurgeryError as error:
            show_error(error)
            return
        st.rerun()


def _risk(workspace: Workspace, run: Run) -> None:
    st.caption("What the edit gains on its own task against what it loses on another: top left is what one wants.")
    proven = own_runs.proven_edits(workspace)
    points = own_runs.trade_offs(proven, {each.rows for each in proven if each.other_task})
    if points:
        st.plotly_chart(
            viz.reward_against_risk([], [], [], [], title="Reward against risk", own=points),
            key="diagnostic-figure-4",
            alt="Mean change on the own task against the points lost on another task",
        )
    other = _other_rows(workspace)
    cells = st.columns([3, 1], vertical_alignment="bottom")
    data = cells[0].text_input(
        "Rows of another task",
        other,
        key="risk-rows",
        help="What must not get worse: another demo's rows, or your own.",
    )
    if cells[1].button(
        "Measure the risk", type="primary", width="stretch", icon=":material/play_arrow:", disabled=_busy()
    ):
        try:
            rows = run.plan.question.get("rows")
            plan = EvaluationPlan(data.strip(), limit=run.plan.examples, random=0, scale=False, again=False)
            if rows is not None and workspace.calibration is not None:
                plan = replace(plan, encoding=workspace.calibration.encoding)
            start(
                Question(plan), ControlledEdits({EDIT: workspace.edit}, {}), {EDIT: workspace.plan}, purpose=PROOF
            )
        except SurgeryError as error:
            show_error(error)
            return
        st.rerun()
    st.caption("Or prove the edit on ifeval above: it counts as risk, as in the paper.")


def _beside(workspace: Workspace) -> ControlledEdits:
    edits = {EDIT: (workspace.edit, rules_of(workspace.plan))}
    return with_controls(workspace.spectra, edits, measured={EDIT: workspace.sensitivity})


def _other_rows(workspace: Workspace) -> str:
    own = workspace.adapter.source
    others = [f"demo:{name}" for name in demo_names() if f"demo:{name}" != own]
    return demo_slice(others[0], "test") if is_demo(own) and others else ""


def _busy() -> bool:
    return jobs.active(KIND) is not None
