"""What is measured of an adapter already: the list of it, the ways to use it, and the job that measures more."""

import os
from collections.abc import Sequence
from contextlib import suppress

import streamlit as st

from app.frame import plain, show_error
from app.state import jobs
from app.state.workspace import Workspace, current, keep, stored_sensitivity
from surgery.adapter import Adapter
from surgery.data import SAMPLED, CalibrationPlan, fetch_source, left_out_text, planned_rows
from surgery.errors import DataError, SurgeryError
from surgery.files import sensitivities_folder
from surgery.model import BaseChoice
from surgery.sensitivity import (
    Measurement,
    Sensitivity,
    delete_measurement,
    shipped_measurements,
    stored_measurements,
)
from surgery.spectra import Spectra

KIND = jobs.CALIBRATION
_SHOWN = 12  # stored results that are listed


def start_calibration(workspace: Workspace, base: BaseChoice, plan: CalibrationPlan) -> None:
    """Measure in the background; the result goes to the workspace that is open then, if it still fits."""
    adapter, spectra = workspace.adapter, workspace.spectra

    def collect(sensitivity: Sensitivity) -> None:
        # the result belongs to the adapter and base it was started with, not to what is open now
        now = current()
        if now.adapter.digest == adapter.digest and now.base == base:
            keep(with_measured(now, plan, sensitivity))

    jobs.start(KIND, "Calibration", _work(adapter, spectra, base, plan), collect)


def with_measured(workspace: Workspace, plan: CalibrationPlan, found: Sensitivity) -> Workspace:
    """The workspace with a measurement to edit for, or to protect where its answers were drawn from the model.

    What is drawn has nothing to stand beside before there is a slice to edit for: it stays in the store.
    """
    if plan.labels == SAMPLED:
        return workspace.with_protected(plan, found)
    return workspace.with_sensitivity(plan, found)


def _work(adapter: Adapter, spectra: Spectra, base: BaseChoice, plan: CalibrationPlan) -> jobs.Work:
    def work(job: jobs.Job, models: jobs.Models) -> Sensitivity:
        from surgery.model import LiveModel
        from surgery.sensitivity import calibrate

        fetch_source(plan.data, job.control)
        job.begin("reading the rows")
        slice_ = planned_rows(plan)  # refused before the base model is loaded
        job.begin("loading the base model")
        loaded = models.base(base, adapter, job.control)
        job.begin("measuring, example")
        with LiveModel(loaded, adapter, spectra) as live:
            return calibrate(live, plan, base=base, slice_=slice_, control=job.control)

    return work


def stored_of(adapter: str) -> Sequence[Measurement]:
    """The stored results of an adapter, whose headers are read again only when the store has changed; then the shipped."""
    shipped = shipped_measurements(adapter)
    with suppress(OSError):
        files = [(file.name, file.stat()) for file in os.scandir(sensitivities_folder())]
        stamp = tuple(sorted((name, s.st_mtime_ns, s.st_size) for name, s in files))
        return [*_headers(adapter, stamp), *shipped]
    return shipped


@st.cache_resource(max_entries=8, show_spinner=False)
def _headers(adapter: str, stamp: tuple[tuple[str, int, int], ...]) -> Sequence[Measurement]:
    return stored_measurements(adapter)


def matching(stored: Sequence[Measurement], base: BaseChoice, plan: CalibrationPlan) -> Measurement | None:
    """What the store has of this plan; the whole result rather than a part."""
    alike = [measurement for measurement in stored if measurement.is_of(base, plan)]
    return next((found for found in alike if found.finished), alike[0] if alike else None)


def list_stored(workspace: Workspace, stored: Sequence[Measurement]) -> None:
    """What is measured of this adapter, newest first, with the ways to use it."""
    for measurement in stored[:_SHOWN]:
        _stored_result(workspace, measurement)
    if len(stored) > _SHOWN:
        st.caption(f"{len(stored) - _SHOWN} older ones are not listed; delete some of these to see them.")


def _stored_result(workspace: Workspace, measurement: Measurement) -> None:
    text, use, protect, delete = st.columns([4.4, 1.4, 1.4, 1], vertical_alignment="center")
    text.markdown(_described(measurement))
    key, base, plan = measurement.file.name, workspace.base, measurement.plan
    ours = measurement.is_of(base)
    if plan is None or measurement.base is None:
        reason = "An earlier version stored this without its settings: measure it again."
    elif not ours:
        reason = f"Measured on {measurement.base.location}, {measurement.dtype}: choose that base model first."
    else:
        reason = None
    drawn = plan is not None and plan.labels == SAMPLED
    if measurement.finished and plan is not None and ours:
        with protect:
            _protect_button(workspace, measurement, plan)
        if drawn:
            reason = "Its answers were drawn from the model: it can be protected, not edited for."
    blocked = reason is not None or jobs.active(KIND) is not None
    if measurement.finished:
        if use.button("Use", key=f"use-{key}", disabled=blocked, help=reason and plain(reason), width="stretch"):
            assert plan is not None
            take_up(workspace, plan, measurement)
    elif use.button(
        f"Resume ({measurement.done} of {measurement.examples} done)", key=f"resume-{key}", disabled=blocked,
        help=reason and plain(reason), width="stretch",
    ):  # fmt: skip
        assert plan is not None
        assert base is not None
        start_calibration(workspace, base, plan)
        st.rerun()
    if measurement.shipped:
        delete.caption("ships with the demo")
    elif delete.button("Delete", key=f"delete-{key}", width="stretch"):
        try:
            delete_measurement(measurement)
        except SurgeryError as error:
            show_error(error)
        else:
            st.rerun()


def _protect_button(workspace: Workspace, measurement: Measurement, plan: CalibrationPlan) -> None:
    """Keep a stored result beside as a slice that edits are not to hurt, or let it go."""
    key = measurement.file.name
    if plan in workspace.protected:
        if st.button("Protected ✓", key=f"free-{key}", width="stretch", help="Edits need not spare it any more"):
            keep(workspace.without_protected(plan))
            st.rerun()
        return
    target = plan == workspace.calibration
    reason = "This is the slice to edit for." if target else "Choose a slice to edit for first."
    blocked = target or workspace.sensitivity is None
    words = (
        reason
        if blocked
        else "Keep it beside the slice to edit for: edits are then foretold on it and can spare it"
    )
    if st.button("Protect", key=f"protect-{key}", disabled=blocked, help=words, width="stretch"):
        found = _found(workspace, measurement)
        if found is not None:
            keep(workspace.with_protected(plan, found))
            st.rerun()


def take_up(workspace: Workspace, plan: CalibrationPlan, measurement: Measurement) -> None:
    """Take a stored result up as if it had just been measured."""
    found = _found(workspace, measurement)
    if found is not None:
        keep(with_measured(workspace, plan, found))
        st.rerun()


def _found(workspace: Workspace, measurement: Measurement) -> Sensitivity | None:
    """What a file holds of the open adapter; what is wrong with it is shown."""
    try:
        found = stored_sensitivity(measurement.file)
        if found.provenance.adapter != workspace.adapter.digest:
            raise DataError("this result belongs to another adapter", "measure this one")
    except SurgeryError as error:
        show_error(error)
        return None
    return found


def _described(measurement: Measurement) -> str:
    """One stored result as a line of Markdown."""
    plan, when = measurement.plan, measurement.measured.astimezone()
    done = f"{measurement.examples} examples"
    if not measurement.finished:
        done = f"unfinished, {measurement.done} of {done}"
    parts = [f"{when:%Y-%m-%d %H:%M}", *(["shipped"] if measurement.shipped else []), done]
    if plan is not None:
        parts += [
            plan.data,
            plan.encoding.template,
            f"seed {plan.seed}",
            f"start {plan.start}",
            f"batch {plan.batch_size}",
            *(["answers drawn from the model"] if plan.labels == SAMPLED else []),
        ]
        if plan.fields != CalibrationPlan("").fields:
            parts.append(plan.fields.described)
        if plan.base_inputs:
            parts.append("inputs of the base alone")
    if measurement.finished and not measurement.inputs:
        parts.append("without functional energy")
    parts.append(measurement.dtype)
    if measurement.loss is not None:
        parts.append(f"mean loss {measurement.loss:.4f}")
    dropped = left_out_text(measurement.left_out)
    parts.append(dropped or "no rows left out")
    first, *others = [plain(part) for part in parts]
    return f"**{first}** · " + " · ".join(others)
