"""The search of the bench: what is to improve, what is varied, and the job that tries one edit after the other."""

from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from app.editing.found import show_searches
from app.editing.measuring import WHOLE, busy, ready, show_waiting, start
from app.frame import show_error
from app.state import jobs
from app.state.workspace import Workspace, current, keep
from surgery.data import TaskPlan
from surgery.errors import SurgeryError
from surgery.evaluation.lm_eval import refuse_other_models
from surgery.experiments import parse_guard, tuning_plan
from surgery.experiments.search import (
    KNOBS,
    OBJECTIVES,
    OWN,
    PARTS,
    PROTECTED,
    TASK,
    Search,
    SearchLimits,
    SearchPlan,
    SearchSpace,
    read_judges,
    seen_by_name,
)
from surgery.files import demo_names, demo_slice, is_demo

_VARIED = {
    KNOBS: "knobs of the policy",
    "strength": "strength",
    "scope": "scope",
    "energy": "energy rule",
    "families": "a gain per family",
    "thirds": "a gain per third of the layers",
    "families-thirds": "a gain per family and third",
}
_FEW = 64  # rows that are asked unless a person wants more


@dataclass(frozen=True)
class _Asked:
    """What the form asks for: objectives, what is varied, rows of another task, how many rows, and whether to race."""

    objectives: tuple[str, ...]
    varied: tuple[str, ...]
    other: str
    rows: int
    race: bool
    task: TaskPlan | None = None

    @property
    def protected(self) -> bool:
        return any(OBJECTIVES[name].rows == PROTECTED for name in self.objectives)

    @property
    def complete(self) -> bool:
        named = (self.task is not None) == (TASK in self.objectives)
        return bool(self.objectives and self.varied and named and (self.other or not self.protected))

    def plan(self, workspace: Workspace) -> SearchPlan:
        """The search from the present edit; reads the rows to find those that are left for tuning."""
        assert workspace.calibration is not None
        tuning = replace(tuning_plan(workspace.calibration), examples=self.rows)
        return SearchPlan(
            workspace.plan,
            tuning,
            self.objectives,
            SearchSpace(None if KNOBS in self.varied else (), tuple(p for p in PARTS if p in self.varied)),
            replace(tuning, data=self.other, start=0) if self.protected else None,
            race=self.race,
            task=self.task and replace(self.task, limit=self.task.limit or self.rows),
        )


def search_panel(workspace: Workspace) -> None:
    """The form of a search, the search that runs, and those that were made of this adapter."""
    st.caption(
        "Optuna proposes edits, tuning rows judge them: tick what the best edit is to be good at. With several ticks there "
        "is no best one but a front, and the choice is yours. A search that was stopped goes on where it was."
    )
    if not ready(workspace):
        return
    asked, limits = _form(workspace)
    if not asked.complete:
        st.caption(
            "Tick something to improve and something to vary, and name the rows or the task that are asked for."
        )
    if st.button("Search", type="primary", disabled=busy() or not asked.complete):
        start_search(workspace, asked.plan(workspace), limits)
        st.rerun()
    show_waiting()
    show_searches(workspace)


def _form(workspace: Workspace) -> tuple[_Asked, SearchLimits]:
    assert workspace.calibration is not None
    names = st.pills(
        "What to improve",
        list(OBJECTIVES),
        selection_mode="multi",
        default=["loss", "kl"],
        format_func=lambda name: OBJECTIVES[name].title,
        key="search-objectives",
        persist_state="session",
    )
    varied = st.pills(
        "What to vary",
        list(_VARIED),
        selection_mode="multi",
        default=[KNOBS],
        format_func=_VARIED.__getitem__,
        key="search-varied",
        persist_state="session",
    )
    task = _task(workspace) if TASK in names else None
    other = _protected_rows(workspace) if any(OBJECTIVES[name].rows == PROTECTED for name in names) else ""
    cells = st.columns(4, vertical_alignment="bottom")
    most = workspace.calibration.examples
    rows = int(cells[0].number_input("Rows", 1, most, min(_FEW, most), key="search-rows"))
    trials = int(cells[1].number_input("Trials at most", 2, 500, 20, key="search-trials"))
    minutes = float(cells[2].number_input("Minutes at most", 1, 600, 10, key="search-minutes"))
    race = cells[3].checkbox(
        "Stop hopeless trials",
        True,
        key="search-race",
        help="A trial ends early when its first rows show beyond doubt that it is worse than the unedited adapter in "
        "everything that is ticked.",
    )
    objectives = tuple(name for name in OBJECTIVES if name in names)
    return _Asked(objectives, tuple(varied), other, rows, race, task), SearchLimits(trials, 60.0 * minutes)


def _task(workspace: Workspace) -> TaskPlan | None:
    """The task of lm-eval that is typed, with its settings; None while there is none, or one that cannot be."""
    said = st.text_input(
        "Task of lm-eval",
        "",
        key="search-task",
        persist_state="session",
        placeholder="arc_easy, limit: 64",
        help="Its name, and its settings as in a recipe. Its documents choose edits as the rows do, by the task's own "
        "metric, and no edit that was found here is proven on them. Without a limit as many are asked as rows.",
    ).strip()
    if not said:
        return None
    try:
        refuse_other_models(workspace.adapter.task)
        asked = parse_guard(f"task: {said}")
    except SurgeryError as error:
        show_error(error)
        return None
    return asked if isinstance(asked, TaskPlan) else None


def _protected_rows(workspace: Workspace) -> str:
    """Rows of another task: those of a protected slice, or the tuning rows of another demo, unless others are named."""
    offered = [plan.data for plan in workspace.protected]
    if is_demo(workspace.adapter.source):
        own = workspace.adapter.source.partition("/")[0]
        offered += [
            demo_slice(name, "tuning")
            for name in demo_names()
            if demo_slice(name, "tuning").partition("/")[0] != own
        ]
    return st.text_input(
        "Rows of another task, which the edit is not to hurt",
        next(iter(offered), ""),
        key="search-protected",
        persist_state="session",
        help="A file, demo:NAME/SLICE or hub:OWNER/NAME:SPLIT, read as the calibration rows are.",
    ).strip()


def start_search(workspace: Workspace, plan: SearchPlan, limits: SearchLimits) -> None:
    """Search in the background; from here on the workspace knows which rows choose."""
    calibration = workspace.calibration
    slices = read_judges(plan, calibration)
    keep(current().with_chosen(plan.choosing))

    def work(live: Any, job: jobs.Job) -> Search:
        from surgery.experiments import TuningSetup
        from surgery.experiments.search import search, task_rows
        from surgery.sensitivity import calibration_slice

        encoded = {whose: calibration_slice(live, plan.slices[whose], each) for whose, each in slices.items()}
        own = encoded.get(OWN, next(iter(encoded.values())))
        job.begin("searching")

        def tell(found: Search) -> None:
            job.partial = found

        return search(
            TuningSetup(live, own, workspace.sensitivity),
            plan,
            protected=encoded.get(PROTECTED),
            task=None if plan.task is None else task_rows(live, plan.task, seen_by_name(calibration)),
            limits=limits,
            tell=tell,
            control=job.control,
        )

    start(workspace, "Search", "searched", work, free=WHOLE)
