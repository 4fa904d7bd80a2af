"""The history of runs as pages read it: listed once for every change on disk, evaluations read once."""

import streamlit as st

from app.state.workspace import Workspace
from surgery.evaluation import Evaluation
from surgery.experiments import recipe_digest
from surgery.files import runs_folder
from surgery.runs import ABOUT, METRICS, PROOF, Run, known_runs

Signature = tuple[tuple[str, int, int], ...]


def all_runs() -> tuple[Run, ...]:
    """Every run of this home, newest first, then those that ship with the demos."""
    folder = runs_folder()
    return _listed(str(folder), signature())


def runs_of_adapter(workspace: Workspace) -> tuple[Run, ...]:
    """Runs of the open adapter, newest first."""
    return tuple(run for run in all_runs() if run.plan.adapter_digest == workspace.adapter.digest)


def runs_of_edit(workspace: Workspace, purpose: str = PROOF) -> tuple[Run, ...]:
    """Runs of the present edit, made from the present calibration on the present base, newest first."""
    if workspace.recipe is None:
        return ()
    edit = recipe_digest(workspace.recipe)
    return tuple(run for run in runs_of_adapter(workspace) if (run.plan.edit, run.plan.purpose) == (edit, purpose))


def newest_proof(workspace: Workspace) -> Run | None:
    """The newest proof of the present edit that has ended."""
    return next((run for run in runs_of_edit(workspace) if run.finished), None)


def evaluation_of(run: Run) -> Evaluation:
    """Scores and answers of a finished run; raises `DataError` when its files were changed."""
    return _evaluated(run.plan.key, run.metrics.samples if run.metrics else "", run)


def signature() -> Signature:
    """Changes when a run appears, ends or goes."""
    found = []
    for folder in sorted(runs_folder().glob("*")):
        times = []
        for name in (ABOUT, METRICS):
            try:
                times.append((folder / name).stat().st_mtime_ns)
            except OSError:
                times.append(0)
        found.append((folder.name, times[0], times[1]))
    return tuple(found)


@st.cache_resource(max_entries=2, show_spinner=False)
def _listed(folder: str, signature: Signature) -> tuple[Run, ...]:
    return tuple(known_runs())


@st.cache_resource(max_entries=16, show_spinner=False)
def _evaluated(key: str, samples: str, _run: Run) -> Evaluation:
    return _run.evaluation
