"""Long work in the background: one worker thread owns the model, everyone else waits in line.

A job survives page changes, a reload and a closed tab; its result is collected on the next run of any page
of the workspace that started it. No Streamlit call happens on the worker thread.
"""

import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import streamlit as st

from app.server.malloc import give_back
from app.state import saved as sessions
from surgery.errors import Cancelled, SurgeryError, first_line
from surgery.progress import SILENT, Control, Pace, duration

if TYPE_CHECKING:
    from surgery.adapter import Adapter
    from surgery.model import BaseChoice, LoadedBase

CALIBRATION, EVALUATION = "calibration", "evaluation"  # kinds of jobs that the header tells of
FETCHING = "fetching"
_KEPT = 32


@dataclass
class Job:
    """One piece of work and where it stands: waiting, running, done, failed or cancelled.

    One that does not need the model runs beside those that do. `partial` is what the worker has so far, for work that shows its result as it grows.
    """

    title: str
    needs_model: bool = True
    id: str = field(default_factory=lambda: uuid4().hex[:12])
    state: str = "waiting"
    step: str = ""
    done: int = 0
    total: int = 0
    step_started: float = 0.0
    resumed_from: int = 0  # what an earlier run had done of this step
    tokens: Pace = field(default_factory=Pace)  # of work that tells them
    partial: Any = None
    result: Any = None
    error: str = ""
    _cancel: threading.Event = field(default_factory=threading.Event)

    @property
    def finished(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    def cancel(self) -> None:
        self._cancel.set()

    def cancelled(self) -> bool:
        return self._cancel.is_set()

    def progress(self, done: int, total: int) -> None:
        """Called by the worker; also the place where a cancel takes effect between batches."""
        if self.cancelled():
            raise Cancelled
        self.count(done, total)

    def count(self, done: int, total: int) -> None:
        """Progress of work that ends by itself when it is cancelled, with what it has."""
        self.done, self.total = done, total

    def begin(self, step: str) -> None:
        self.step, self.done, self.total, self.resumed_from = step, 0, 0, 0
        self.step_started = time.monotonic()
        self.tokens.begin()

    def resume(self, done: int, total: int) -> None:
        """The step goes on from what an earlier run had done; the pace counts from here."""
        self.resumed_from, self.step_started = done, time.monotonic()
        self.count(done, total)

    @property
    def control(self) -> Control:
        """What the library's work tells of itself, and where it hears of a cancel."""
        return Control(self.begin, self.progress, self.cancelled, self.resume, self.tokens.tokens)

    @property
    def share(self) -> float:
        """What part of the step is done, from 0 to 1."""
        if self.tokens.total:
            return self.tokens.share
        return min(self.done / self.total, 1.0) if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the pace so far; None before anything was done."""
        if self.tokens.total:
            return self.tokens.seconds_left
        here = self.done - self.resumed_from
        if here <= 0 or not self.total:
            return None
        return (time.monotonic() - self.step_started) / here * (self.total - self.done)

    @property
    def pace(self) -> str:
        """How far it is and how long it still takes, as the end of a sentence; empty before that is known."""
        if not self.total:
            return ""
        told = f", {self.done} of {self.total}"
        if str(self.tokens):
            return f"{told}, {self.tokens}"
        left = self.seconds_left if self.done < self.total else None
        return told + (f", about {duration(left)} left" if left is not None else "")


class Models:
    """The base model in memory. Used on the worker thread only."""

    def __init__(self) -> None:
        self._choice: BaseChoice | None = None
        self._base: LoadedBase | None = None

    def base(self, choice: "BaseChoice", adapter: "Adapter", control: Control = SILENT) -> "LoadedBase":
        """The base model of a choice, loaded as this adapter needs it; `control` hears of what is fetched for it."""
        from surgery.model import base_for

        if self._base is None or choice != self._choice or not self._base.serves(adapter):
            self._base = None  # the old model goes before the new one comes
            gc.unfreeze()  # with it what sessions that were open at the last freeze have left since
            gc.collect()
            self._base = base_for(adapter, choice, control=control)
            self._choice = choice
            # a model's objects live long: keep them out of every later collection
            gc.collect()
            gc.freeze()
        return self._base


Work = Callable[[Job, Models], Any]
Collect = Callable[[Any], None]


class Jobs:
    """All jobs of this server."""

    def __init__(self) -> None:
        self._models = Models()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._fetcher = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fetch")
        self._jobs: dict[str, Job] = {}
        self._claims: dict[tuple[str, str], tuple[str, Collect]] = {}

    def submit(self, title: str, work: Work, *, needs_model: bool = True) -> Job:
        for old in [job for job in self._jobs.values() if job.finished][: max(0, len(self._jobs) - _KEPT)]:
            del self._jobs[old.id]
        # a workspace that nobody opens again would keep what its job was about
        for owned in [owned for owned, (waited, _) in list(self._claims.items()) if waited not in self._jobs]:
            self._claims.pop(owned, None)
        job = Job(title, needs_model)
        self._jobs[job.id] = job
        (self._worker if needs_model else self._fetcher).submit(self._run, job, work)
        return job

    def claim(self, owner: str, kind: str, job: Job, collect: "Collect") -> None:
        """The workspace `owner` waits for the job, and for no earlier one of that kind."""
        self._claims[owner, kind] = (job.id, collect)

    def claims(self, owner: str) -> dict[str, tuple[Job | None, "Collect"]]:
        """What a workspace waits for, by kind; None for a job that is no longer known."""
        found = list(self._claims.items())
        return {kind: (self._jobs.get(job), collect) for (whose, kind), (job, collect) in found if whose == owner}

    def drop(self, owner: str, kind: str) -> None:
        self._claims.pop((owner, kind), None)

    def share(self, owner: str, other: str) -> None:
        """The workspace `other` waits for all that `owner` waits for."""
        for kind, (job, collect) in self.claims(owner).items():
            if job is not None:
                self.claim(other, kind, job, collect)

    def awaited(self, job: Job) -> bool:
        """Whether any workspace still has to collect the job."""
        return any(waited == job.id for waited, _ in list(self._claims.values()))

    def cancel_all(self) -> None:
        """No job begins any more, and the one that runs ends at its next batch."""
        for job in list(self._jobs.values()):
            job.cancel()

    @property
    def running(self) -> Job | None:
        """The job that has the model now."""
        return self._running(needs_model=True)

    def _running(self, needs_model: bool) -> Job | None:
        every = list(self._jobs.values())
        return next((job for job in every if job.state == "running" and job.needs_model == needs_model), None)

    def line(self, job: Job) -> str:
        """What a waiting job waits for: the model serves one at a time, whoever asks."""
        told = "waiting for the model" if job.needs_model else "waiting for the line"
        running = self._running(job.needs_model)
        if running is not None and running is not job:
            told += f", which is busy with: {running.title}{running.pace}"
        alike = [each for each in list(self._jobs.values()) if each.needs_model == job.needs_model]
        waiting = [each for each in alike if each.state == "waiting" and not each.cancelled()]
        ahead = waiting.index(job) if job in waiting else 0
        return told + (f"; {ahead} more before this one" if ahead else "")

    def _run(self, job: Job, work: Work) -> None:
        if job.cancelled():
            job.state = "cancelled"
            return
        job.state = "running"
        try:
            job.result = work(job, self._models)
            job.state = "done"
        except Cancelled:
            job.state = "cancelled"
        except SurgeryError as error:
            job.error, job.state = str(error), "failed"
        except MemoryError:
            job.error = "the machine ran out of memory → use a smaller batch or dtype bfloat16"
            job.state = "failed"
        except Exception as error:
            job.error = f"{first_line(error, kind=True)} → report this as a defect"
            job.state = "failed"
        finally:
            give_back()


@st.cache_resource(show_spinner=False)
def jobs() -> Jobs:
    """The one job list of this server, shared by all sessions."""
    return Jobs()


def start(kind: str, title: str, work: Work, collect: Callable[[Any], None], *, needs_model: bool = True) -> None:
    """Start a job of `kind` for this workspace; `collect(result)` runs in a page run once it is done."""
    jobs().claim(_owner(), kind, jobs().submit(title, work, needs_model=needs_model), collect)


def active(kind: str) -> Job | None:
    """This workspace's job of `kind` that has not been collected yet."""
    return jobs().claims(_owner()).get(kind, (None,))[0]


def collect_finished() -> list[Job]:
    """Hand over the results of finished jobs; returns the jobs that ended without one."""
    ended = []
    owner = _owner()
    for kind, (job, collect) in jobs().claims(owner).items():
        if job is None:
            jobs().drop(owner, kind)
        elif job.finished:
            jobs().drop(owner, kind)
            if job.state == "done":
                collect(job.result)
            else:
                ended.append(job)
            if not jobs().awaited(job):
                job.result = job.partial = None
    return ended


def follow(workspace_id: str) -> None:
    """Wait for what that workspace waits for too: the open one is a copy of it."""
    jobs().share(workspace_id, _owner())


def at_work() -> list[tuple[Job, bool]]:
    """What every page shows, and whether it is this workspace's own.

    Own jobs until they are collected; where none waits for the model, the job of another workspace that has it.
    """
    own = [job for job, _ in jobs().claims(_owner()).values() if job is not None]
    running = jobs().running
    if running is None or running in own or any(job.state == "waiting" for job in own):
        return [(job, True) for job in own]
    return [*((job, True) for job in own), (running, False)]


def _owner() -> str:
    """The open workspace; a session without one waits for itself."""
    return str(st.session_state.get(sessions.ID) or st.session_state.setdefault("job-owner", uuid4().hex))
