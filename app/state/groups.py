"""Groups of runs as pages read them: found among the listed runs, their outcomes computed once."""

from dataclasses import dataclass

import streamlit as st

from app.state.runs import all_runs, evaluation_of
from app.state.workspace import Workspace
from surgery.evaluation import TaskOutcome, task_outcomes
from surgery.runs import Run, RunGroup, stored_groups


@dataclass(frozen=True)
class ShownGroup:
    """The run of an own task and those of its guards that are still there; `missing` counts the others."""

    own: Run
    guards: tuple[Run, ...]
    missing: int

    @property
    def outcomes(self) -> tuple[TaskOutcome, ...]:
        """See `task_outcomes`; raises `DataError` where the files of a run were changed."""
        runs = (self.own, *self.guards)
        return _outcomes(tuple((run.plan.key, run.metrics.samples if run.metrics else "") for run in runs), runs)


def shown_group(own: Run) -> ShownGroup | None:
    """The newest group whose own task is this run's; None where it has none, or no guard of it is there."""
    return next((group for group in _shown() if group.own.plan.key == own.plan.key), None)


def groups_of_adapter(workspace: Workspace) -> tuple[ShownGroup, ...]:
    """The groups of the open adapter, newest first."""
    return tuple(group for group in _shown() if group.own.plan.adapter_digest == workspace.adapter.digest)


def _shown() -> list[ShownGroup]:
    runs = {run.plan.key: run for run in reversed(all_runs()) if run.finished}
    return [shown for group in stored_groups() if (shown := _of(group, runs)) is not None]


def _of(group: RunGroup, runs: dict[str, Run]) -> ShownGroup | None:
    guards = tuple(runs[key] for key in group.guards if key in runs)
    if group.own not in runs or not guards:
        return None
    return ShownGroup(runs[group.own], guards, len(group.guards) - len(guards))


@st.cache_resource(max_entries=32, show_spinner=False)
def _outcomes(answers: tuple[tuple[str, str], ...], _runs: tuple[Run, ...]) -> tuple[TaskOutcome, ...]:
    own, *guards = [(run.plan.slice_name, evaluation_of(run)) for run in _runs]
    return task_outcomes(own, guards)
