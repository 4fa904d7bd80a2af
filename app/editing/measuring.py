"""Jobs of the Surgery page on the live model, and results that know what they were measured with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.offer import offer_calibration
from app.running import waits_for
from app.state import jobs
from app.state.workspace import Workspace, current, keep
from surgery.data import CalibrationPlan
from surgery.edits import edit_record
from surgery.files import digest

KIND = "bench"
TRY = "try"
WHOLE = ("*",)  # what varies is the edit itself


@dataclass(frozen=True)
class Measured:
    """What one job gave, and what it was measured with."""

    key: str
    value: Any


def ready(workspace: Workspace) -> bool:
    """Whether the model can be run; if not, what is missing is asked for here."""
    if workspace.base is None or workspace.calibration is None:
        offer_calibration(workspace, "The base model runs here.")
        return False
    return True


def busy() -> bool:
    return jobs.active(KIND) is not None or jobs.active(TRY) is not None


def show_waiting() -> None:
    waits_for(KIND, "This runs now. What it finds appears here when it ends.")


def start(
    workspace: Workspace,
    title: str,
    slot: str,
    work: Callable[[Any, jobs.Job], Any],
    *,
    kind: str = KIND,
    free: tuple[str, ...] = (),
) -> None:
    """Start a job on the live model; its result belongs to this workspace as it is now, but for what is `free`."""
    adapter, spectra, base = workspace.adapter, workspace.spectra, workspace.base
    key = _key(workspace, free)

    def whole(job: jobs.Job, models: jobs.Models) -> Any:
        from surgery.model import LiveModel

        assert base is not None
        job.begin("loading the base model")
        with LiveModel(models.base(base, adapter, job.control), adapter, spectra) as live:
            return work(live, job)

    def collect(result: Any) -> None:
        st.session_state[f"bench-{slot}"] = Measured(key, result)

    jobs.start(kind, title, whole, collect)


def tuning_rows(workspace: Workspace) -> CalibrationPlan:
    """The tuning rows; from here on the workspace knows that they were used to choose."""
    from surgery.experiments import tuning_plan

    assert workspace.calibration is not None
    plan = tuning_plan(workspace.calibration)
    keep(current().with_tuning(plan))
    return plan


def result_of(slot: str, workspace: Workspace, free: tuple[str, ...] = ()) -> Any:
    """What a job left in `slot`, unless anything it was measured with has changed since."""
    found: Measured | None = st.session_state.get(f"bench-{slot}")
    if found is None:
        return None
    if found.key != _key(workspace, free):
        st.caption("The last result was of another edit, calibration or base model.")
        return None
    return found.value


def _key(workspace: Workspace, free: tuple[str, ...] = ()) -> str:
    """Everything a measurement depends on, but for the knobs `free` that it varies, or `WHOLE` for the whole edit."""
    record = {} if free == WHOLE else edit_record(workspace.plan)
    record["knobs"] = {k: v for k, v in record.get("knobs", {}).items() if k not in free}
    measured = workspace.measured_key
    return digest(
        [repr(record), workspace.adapter.digest, repr(workspace.base), repr(workspace.calibration), measured]
    )
