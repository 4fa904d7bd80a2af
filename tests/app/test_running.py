"""What is at work is seen on every page, and a page that waits for it fills when it ends, whoever started it."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.state import jobs
from app.state.jobs import Job, Jobs
from app.state.workspace import Workspace
from surgery import decompose, open_adapter
from surgery.data import CalibrationPlan
from surgery.model import BaseChoice
from tests.helpers.models import save_adapter, save_model, tiny_llama

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
PAGES = ("adapter", "geometry", "spectra", "surgery", "evaluate", "export", "paper")
START = "Calibrate with these settings"


class Work:
    """A job that is at its third of twelve examples until it is let go or stopped."""

    def __init__(self) -> None:
        self.started, self.released = threading.Event(), threading.Event()

    def __call__(self, job: Job, models: object) -> int:
        job.begin("measuring, example")
        job.progress(3, 12)
        self.started.set()
        while not self.released.wait(0.01):
            job.progress(3, 12)
        return 7


@pytest.fixture
def work() -> Iterator[Work]:
    work = Work()
    yield work
    work.released.set()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """An adapter of one's own on a base that is loaded in no time, with rows, not measured yet."""
    folder = tmp_path_factory.mktemp("tiny")
    save_model(tiny_llama(), folder / "base")
    adapter = open_adapter(str(save_adapter(tiny_llama(), folder / "adapter")))
    rows = [json.dumps({"prompt": f"{a}+{b}=", "answer": str(a + b)}) for a in range(5) for b in range(5)]
    (folder / "rows.jsonl").write_text("\n".join(rows))
    plan = CalibrationPlan(str(folder / "rows.jsonl"), 12, batch_size=2)
    return Workspace(adapter, decompose(adapter), BaseChoice(str(folder / "base")), plan)


def opened(page: str = "adapter", workspace: Workspace | None = None) -> AppTest:
    test = AppTest.from_file(str(MAIN), default_timeout=60)
    if workspace is not None:
        test.session_state["workspace"] = workspace
    test.run()
    return turned(test, page)


def turned(test: AppTest, page: str) -> AppTest:
    if page != "adapter":
        test.switch_page(f"views/{page}.py")
    test.run()
    assert not test.exception
    return test


def owner(test: AppTest) -> str:
    return str(test.session_state["workspace-id"])


def submitted(work: Work, whose: str, kind: str = "evaluation") -> Job:
    job = jobs.jobs().submit("Evaluation on rows", work)
    jobs.jobs().claim(whose, kind, job, lambda result: None)
    assert work.started.wait(20)
    return job


def bars(test: AppTest) -> list[str]:
    return [element.proto.text.replace("\\", "") for element in test.get("progress")]


def labels(test: AppTest) -> list[str]:
    return [button.label for button in test.button]


def badges(test: AppTest) -> str:
    return test.markdown[0].value


def ended(job: Job) -> None:
    limit = time.monotonic() + 20
    while not job.finished:
        assert time.monotonic() < limit
        time.sleep(0.01)


def until_free(test: AppTest, seconds: float = 60.0) -> AppTest:
    """Run the page as its strip does, until nothing of its workspace is at work."""
    limit = time.monotonic() + seconds
    while jobs.jobs().claims(owner(test)):
        assert time.monotonic() < limit
        time.sleep(0.1)
        test.run()
        assert not test.exception
    return test


def test_a_running_job_is_seen_once_on_every_page_with_its_progress_its_time_and_a_stop(work: Work) -> None:
    test = opened()
    job = submitted(work, owner(test))
    for page in PAGES:
        (bar,) = bars(turned(test, page))
        assert bar.startswith("Evaluation on rows: measuring, example, 3 of 12, about "), page
        assert bar.endswith(" left"), page
        assert labels(test).count("Stop") == 1, page
        assert "proof: under way" in badges(test), page
    next(button for button in test.button if button.label == "Stop").click().run()
    ended(job)
    assert job.state == "cancelled"
    turned(test, "paper")
    assert bars(test) == []
    assert "Stop" not in labels(test)


def test_a_job_of_another_workspace_is_named_while_it_has_the_model_and_cannot_be_stopped_here(work: Work) -> None:
    job = submitted(work, "another one")
    test = opened("geometry")
    (bar,) = bars(test)
    assert bar.startswith("The model is busy with work of another page: Evaluation on rows, 3 of 12")
    assert "Stop" not in labels(test)
    work.released.set()
    ended(job)
    assert bars(test.run()) == []


def test_own_work_that_waits_says_for_whom_and_only_once(work: Work) -> None:
    submitted(work, "another one")
    test = opened()
    waiting = jobs.jobs().submit("Reload", lambda job, models: None)
    jobs.jobs().claim(owner(test), "reload", waiting, lambda result: None)
    (bar,) = bars(test.run())
    assert bar.startswith("Reload: waiting for the model, which is busy with: Evaluation on rows, 3 of 12")
    assert labels(test).count("Stop") == 1


def test_the_name_of_a_job_is_shown_as_text_and_not_as_markup(work: Work) -> None:
    job = jobs.jobs().submit("Evaluation on ![x](http://elsewhere/a.png)", work)
    jobs.jobs().claim("another one", "evaluation", job, lambda result: None)
    assert work.started.wait(20)
    (bar,) = opened().get("progress")
    assert r"\!\[x\]\(http" in bar.proto.text


def test_a_result_is_kept_until_every_copy_of_the_workspace_has_taken_it() -> None:
    ours, results = Jobs(), []
    job = ours.submit("work", lambda job, models: 3)
    ours.claim("first", "proof", job, results.append)
    ours.share("first", "copy")
    ((found, collect),) = ours.claims("copy").values()
    assert found is job
    ours.drop("first", "proof")
    assert ours.awaited(job)
    ended(job)
    collect(job.result)
    ours.drop("copy", "proof")
    assert results == [3]
    assert not ours.awaited(job)


@pytest.mark.parametrize("page", ["surgery", "evaluate", "export", "spectra"])
def test_each_page_that_needs_a_calibration_starts_the_workspaces_own(page: str, tiny: Workspace) -> None:
    test = opened(page, tiny)
    assert labels(test).count(START) == 1
    assert any("unknown until the first batch" in caption.value for caption in test.caption)
    next(button for button in test.button if button.label == START).click().run()
    until_free(test)
    found = test.session_state["workspace"]
    assert (found.calibration, found.sensitivity.examples) == (tiny.calibration, 12)
    assert START not in labels(test)
    assert "calibration: 12 examples" in badges(test)


def test_a_page_fills_that_did_not_start_the_calibration(tiny: Workspace, work: Work) -> None:
    blocked = submitted(work, "another one")  # so that ours waits while the page is turned
    test = opened("surgery", tiny)
    next(button for button in test.button if button.label == START).click().run()
    for page in ("surgery", "evaluate", "export"):
        turned(test, page)
        assert any("this page fills by itself" in info.value for info in test.info), page
        assert "calibration: under way" in badges(test)
    work.released.set()
    ended(blocked)
    until_free(test)
    assert "Write and verify" in labels(test)
    assert test.get("bidi_component") == []
    assert turned(test, "surgery").get("bidi_component")


@pytest.mark.parametrize("page", ["surgery", "evaluate", "export"])
def test_what_a_calibration_lacks_is_asked_for_in_place(page: str, tiny: Workspace) -> None:
    bare = Workspace(tiny.adapter, tiny.spectra)
    test = opened(page, bare)
    (field,) = [field for field in test.text_input if field.label == "Model folder, GGUF file or hub id"]
    field.set_value(tiny.base.location)
    next(button for button in test.button if button.label == "Use this base").click().run()
    assert test.session_state["workspace"].base == tiny.base
    kinds = next(group for group in test.get("button_group") if group.label == "Rows from")
    kinds.set_value("Path").run()
    next(field for field in test.text_input if field.label == "File").set_value(tiny.calibration.data).run()
    next(field for field in test.number_input if field.label == "Examples").set_value(12).run()
    next(button for button in test.button if button.label == START).click().run()
    until_free(test)
    assert test.session_state["workspace"].sensitivity.examples == 12
    assert START not in labels(test)
