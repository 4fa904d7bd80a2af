"""Below the board: what any spectrum edit could still gain, beside what is expected of this one."""

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import streamlit as st

import viz
from app.editing.fold import fold
from app.editing.measuring import WHOLE, busy, show_waiting, start, tuning_rows
from app.frame import plain
from app.state import jobs
from app.state.workspace import Workspace, keep
from surgery.files import headrooms_folder
from surgery.spectra import Spectra

if TYPE_CHECKING:
    from surgery.experiments import Headroom, StoredHeadroom


def headroom_panel(workspace: Workspace) -> None:
    """The training of σ alone, started here in the background, and what it found of the scope at hand."""
    title = "Headroom: what could any spectrum edit still gain?"
    fold(workspace, title, ":material/height:", "headroom-open", _show)


def _show(workspace: Workspace) -> None:
    if workspace.sensitivity is None or workspace.base is None or workspace.calibration is None:
        st.caption("σ is trained on the calibration rows, with the base model. Calibrate first.")
        return
    st.caption(
        "σ of the modules in scope is trained by Adam on the calibration rows, and the epoch that the tuning rows like "
        "best is kept. Where that gains no more, no policy will. The tuning rows choose, so their number is optimistic: "
        "prove the edit on other rows."
    )
    press, epochs = st.columns([1, 1], vertical_alignment="bottom")
    most = int(epochs.number_input("Epochs at most", 1, 100, 20, key="headroom-epochs"))
    if press.button("Train σ", type="primary", disabled=busy(), key="headroom-go", width="stretch"):
        start_training(workspace, most)
        st.rerun()
    show_waiting()
    known = [each for each in stored_here(workspace) if each.question.scope == workspace.plan.scope]
    if not known:
        return
    answer = known[0]
    if len(known) > 1:
        answer = st.selectbox("Training", known, format_func=_name, key=f"headroom-{len(known)}") or known[0]
    _answer(workspace, answer)


def start_training(workspace: Workspace, epochs: int) -> None:
    """Train σ in the background; what it finds is stored, and an answer that is stored comes at once."""
    from surgery.experiments import HeadroomQuestion, Training

    assert workspace.sensitivity is not None
    question = HeadroomQuestion(
        workspace.sensitivity.provenance.key, tuning_rows(workspace), workspace.plan.scope, Training(epochs)
    )

    def work(live: Any, job: jobs.Job) -> Any:
        from surgery.experiments import TuningSetup, kept_headroom
        from surgery.sensitivity import calibration_slice

        assert workspace.calibration is not None
        calibration = calibration_slice(live, workspace.calibration)
        setup = TuningSetup(live, calibration_slice(live, question.tuning), workspace.sensitivity)
        job.begin("training σ, row")
        return kept_headroom(setup, calibration, question, control=job.control)

    start(workspace, "Headroom", "headroom", work, free=WHOLE)


def stored_here(workspace: Workspace) -> "list[StoredHeadroom]":
    """What is stored for the workspace's sensitivities, newest first; read again only when the store has changed."""
    assert workspace.sensitivity is not None
    stamp: tuple[tuple[str, int, int], ...] = ()
    with suppress(OSError):
        files = [(file.name, file.stat()) for file in os.scandir(headrooms_folder())]
        stamp = tuple(sorted((name, found.st_mtime_ns, found.st_size) for name, found in files))
    return _stored(workspace.sensitivity.provenance.key, stamp, workspace.spectra) if stamp else []


@st.cache_resource(max_entries=8, show_spinner=False)
def _stored(measured: str, stamp: tuple[tuple[str, int, int], ...], _spectra: Spectra) -> "list[StoredHeadroom]":
    from surgery.experiments import stored_headrooms

    return stored_headrooms(measured, _spectra)


def _name(answer: "StoredHeadroom") -> str:
    training = answer.question.training
    return (
        f"{answer.measured_at:%Y-%m-%d %H:%M} · {training.epochs} epochs at most · {answer.question.tuning.data}"
    )


def _answer(workspace: Workspace, answer: "StoredHeadroom") -> None:
    found, told = answer.found, workspace.expectation
    cells = st.columns(3)
    if told is not None:
        noise = "within noise" if told.low <= 0 <= told.high else ""
        _metric(cells[0], "Expected of this edit, held-out rows", told.mean, told.standard_error, noise)
    noise = "" if found.change.certain else "within noise"
    _metric(cells[1], "Headroom, tuning rows", found.change.mean, found.change.standard_error, noise)
    cells[2].metric("Of the headroom, this edit", share_text(found, None if told is None else told.mean))
    st.plotly_chart(
        viz.training_curve(found.calibration, found.tuning, found.epoch, title="Loss while σ is trained"),
        key="headroom-figure",
        alt="Mean loss of the calibration and the tuning rows along the epochs of training σ",
    )
    took = f"{found.seconds:.0f} s, {len(found.calibration)} epochs"
    rows = f"{answer.question.tuning.examples} tuning rows of {plain(answer.question.tuning.data)}"
    st.caption(f"{rows}; the best epoch is {found.epoch} ({took}). 0 is the adapter as it came.")
    if found.epoch and st.button("Take the trained σ as the edit", key="headroom-take"):
        keep(workspace.with_history(workspace.history.record(f"headroom, epoch {found.epoch}", found.plan)))
        st.rerun()


def _metric(cell: Any, label: str, mean: float, error: float, noise: str) -> None:
    cell.metric(label, f"{mean:+.4f} ± {error:.4f}", noise or None, delta_color="off", delta_arrow="off")


def share_text(found: "Headroom", expected: float | None) -> str:
    """How much of the headroom an edit with this expectation is to reach; no number where there is none to speak of."""
    if not found.change.certain or found.change.mean >= 0:
        return "no headroom beyond noise"
    if expected is None:
        return "not known"
    return f"{expected / found.change.mean:.0%}"
