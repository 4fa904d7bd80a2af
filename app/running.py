"""What is at work, seen on every page: how far it is, the time left, a way to stop it.

A page that waits for a job says so and nothing more; when a job ends, whichever page is open runs once more.
"""

import streamlit as st

from app.frame import plain
from app.state import jobs
from app.state.jobs import Job

_EVERY = 1.0  # seconds between looks at a job; a page that is redrawn more often slows the work it shows


def show_running() -> None:
    """A line for each job of this workspace, and for one of another that has the model; nothing when all is at rest."""
    shown = jobs.at_work()
    if shown:
        _follow([job.id for job, own in shown if own])


def waits_for(kind: str, text: str) -> bool:
    """Whether a job of `kind` is under way; if so, `text` tells the page's reader what will appear."""
    if jobs.active(kind) is None:
        return False
    st.info(text, icon=":material/hourglass_top:")
    return True


@st.fragment(run_every=_EVERY)
def _follow(own_jobs: list[str]) -> None:
    """The page runs once more when an own job has ended or come; for another's that would close an open dialog."""
    shown = jobs.at_work()
    if [job.id for job, own in shown if own] != own_jobs or any(job.finished for job, own in shown if own):
        st.rerun()
    for job, own in shown:
        _line(job, own)


def _line(job: Job, own: bool) -> None:
    if not own:
        st.progress(job.share, text=plain(f"The model is busy with work of another page: {job.title}{job.pace}"))
        return
    bar, stop = st.columns([7, 1], vertical_alignment="bottom")
    bar.progress(job.share, text=plain(_told(job)))
    if stop.button("Stop", key=f"stop-{job.id}", width="stretch", disabled=job.cancelled()):
        job.cancel()
        st.rerun(scope="fragment")


def _told(job: Job) -> str:
    if job.cancelled():
        return f"{job.title}: stopping at the next batch"
    if job.state == "waiting":
        return f"{job.title}: {jobs.jobs().line(job)}"
    return f"{job.title}: {job.step or 'starting'}{job.pace}"
