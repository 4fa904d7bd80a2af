"""Jobs: one at a time, stopped, failed and found again."""

import threading
import time
from pathlib import Path

from app.state.jobs import Job, Jobs, Models
from surgery.adapter import open_adapter
from surgery.errors import DataError
from surgery.model import BaseChoice
from tests.helpers.seq2seq import base_of_two_tasks


def test_a_job_belongs_to_its_workspace_and_a_later_session_finds_it() -> None:
    jobs = Jobs()
    job = jobs.submit("work", lambda job, models: 3)
    jobs.claim("mine", "proof", job, print)
    assert {kind: found for kind, (found, _) in jobs.claims("mine").items()} == {"proof": job}
    assert jobs.claims("yours") == {}
    jobs.drop("mine", "proof")
    assert jobs.claims("mine") == {}


def _ended(job: Job, seconds: float = 10.0) -> Job:
    limit = time.monotonic() + seconds
    while not job.finished and time.monotonic() < limit:
        time.sleep(0.01)
    return job


def test_jobs_run_one_at_a_time_in_order() -> None:
    jobs, running, seen = Jobs(), threading.Lock(), []

    def work(job: Job, models: object) -> str:
        assert running.acquire(blocking=False), "two jobs held the model at once"
        time.sleep(0.02)
        seen.append(job.title)
        running.release()
        return job.title

    submitted = [jobs.submit(str(i), work) for i in range(4)]
    assert [_ended(job).result for job in submitted] == ["0", "1", "2", "3"]
    assert seen == ["0", "1", "2", "3"]


def test_a_waiting_job_says_what_the_model_is_busy_with_and_who_comes_first() -> None:
    jobs, started, release = Jobs(), threading.Event(), threading.Event()

    def work(job: Job, models: object) -> None:
        job.begin("answering")
        job.count(3, 12)
        started.set()
        release.wait(10)

    first = jobs.submit("Evaluation on demo:kinship/test", work)
    second, third = (jobs.submit(name, lambda job, models: None) for name in ("Calibration", "Reload"))
    assert started.wait(5)
    busy = "waiting for the model, which is busy with: Evaluation on demo:kinship/test, 3 of 12, about"
    assert jobs.line(second).startswith(busy)
    assert jobs.line(second).endswith(" left")
    assert jobs.line(third).startswith(busy)
    assert jobs.line(third).endswith("; 1 more before this one")
    second.cancel()
    assert jobs.line(third).endswith(" left")
    release.set()
    assert _ended(third).state == "done"
    assert first.state == "done"


def test_a_server_that_stops_ends_the_running_job_and_begins_no_other() -> None:
    jobs, started = Jobs(), threading.Event()

    def work(job: Job, models: object) -> None:
        started.set()
        while True:
            job.progress(0, 1)
            time.sleep(0.005)

    running, waiting = jobs.submit("long", work), jobs.submit("next", work)
    assert started.wait(5)
    jobs.cancel_all()
    assert [_ended(job).state for job in (running, waiting)] == ["cancelled", "cancelled"]


def test_a_stopped_job_ends_cancelled_between_two_steps() -> None:
    jobs, started = Jobs(), threading.Event()

    def work(job: Job, models: object) -> None:
        for done in range(10_000):
            job.progress(done, 10_000)
            started.set()
            time.sleep(0.005)

    job = jobs.submit("long", work)
    assert started.wait(5)
    job.cancel()
    assert _ended(job).state == "cancelled"
    assert job.result is None


def test_a_job_stopped_while_it_waits_never_runs() -> None:
    jobs, release, ran = Jobs(), threading.Event(), []
    first = jobs.submit("first", lambda job, models: release.wait(5))
    second = jobs.submit("second", lambda job, models: ran.append(1))
    second.cancel()
    release.set()
    assert _ended(first).state == "done"
    assert _ended(second).state == "cancelled"
    assert ran == []


def test_a_failed_job_says_why_and_the_next_one_runs() -> None:
    def refuse(job: Job, models: object) -> None:
        raise DataError("the rows are gone", "choose others")

    def break_down(job: Job, models: object) -> None:
        raise ZeroDivisionError("division by zero")

    jobs = Jobs()
    refused, broken = jobs.submit("a", refuse), jobs.submit("b", break_down)
    fine = jobs.submit("c", lambda job, models: 7)
    assert _ended(refused).error == "the rows are gone → choose others"
    assert "ZeroDivisionError" in _ended(broken).error
    assert _ended(fine).result == 7


def test_work_that_ends_by_itself_keeps_what_it_has_when_it_is_stopped() -> None:
    jobs, started = Jobs(), threading.Event()

    def work(job: Job, models: object) -> int:
        for done in range(10_000):
            job.count(done, 10_000)
            job.partial = done
            started.set()
            if job.cancelled():
                return done
            time.sleep(0.005)
        return -1

    job = jobs.submit("search", work)
    assert started.wait(5)
    job.cancel()
    assert _ended(job).state == "done"
    assert job.result == job.partial == job.done >= 0
    assert job.total == 10_000


def test_a_base_stays_for_adapters_of_its_task_and_is_loaded_anew_for_another(tmp_path: Path) -> None:
    base, folders = base_of_two_tasks(tmp_path)
    choice, models = BaseChoice(str(base)), Models()
    adapters = {task: open_adapter(folder) for task, folder in folders.items()}
    first = models.base(choice, adapters["SEQ_2_SEQ_LM"])
    assert models.base(choice, adapters["SEQ_2_SEQ_LM"]) is first
    other = models.base(choice, adapters["CAUSAL_LM"])
    assert (first.task, other.task) == ("SEQ_2_SEQ_LM", "CAUSAL_LM")
    assert type(other.model) is not type(first.model)
