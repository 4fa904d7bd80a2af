"""An adapter of the hub is opened by its name: fetched in the background, stopped, refused, and not at the cost of work."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from streamlit.testing.v1 import AppTest

from app.state import jobs, saved
from app.state.jobs import Jobs
from app.state.workspace import workspace_for
from tests.helpers.hub_server import Asked, HubFiles, HubServer

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"


@pytest.fixture(autouse=True)
def own_jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """A list of jobs for this test alone."""
    own = Jobs()
    monkeypatch.setattr(jobs, "jobs", lambda: own)
    yield own
    own.cancel_all()


@pytest.fixture
def adapter(hub: HubServer, small_adapter: Path) -> HubFiles:
    return hub.add("owner/name", {f"last/{file.name}": file.read_bytes() for file in small_adapter.iterdir()})


def opened() -> AppTest:
    test = AppTest.from_file(str(MAIN), default_timeout=60).run()
    test.button_group(key="open-kind").set_value("Hub").run()
    return test


def named(test: AppTest, name: str) -> AppTest:
    test.text_input(key="open-hub-name").set_value(name)
    next(b for b in test.button if b.label == "Open").click().run()
    return test


def after(test: AppTest, done: Callable[[AppTest], bool]) -> AppTest:
    deadline = time.monotonic() + 60
    while not done(test):
        assert not test.exception
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
        test.run()
    return test


def source(test: AppTest) -> str:
    return str(test.session_state["workspace"].adapter.source)


def shown(test: AppTest) -> str:
    return " ".join(element.value for element in (*test.markdown, *test.error, *test.info, *test.caption))


class Held:
    """A hub that answers no request for weights until it is let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.released = threading.Event(), threading.Event()
        told = HubServer.told

        def waits(server: HubServer, asked: Asked) -> None:
            told(server, asked)
            if asked.method == "GET" and asked.path.endswith(".safetensors"):
                self.reached.set()
                self.released.wait(30)

        monkeypatch.setattr(HubServer, "told", waits)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    held = Held(monkeypatch)
    yield held
    held.released.set()


def test_an_adapter_opens_by_its_name_at_its_commit(adapter: HubFiles) -> None:
    test = named(opened(), "owner/name/last")
    commit = adapter.refs["main"]
    after(test, lambda page: source(page) == f"owner/name@{commit}/last")
    assert {metric.label: metric.value for metric in test.metric}["Modules"] == "6"
    assert f"owner/name@{commit[:7]}/last" in shown(test).replace("\\", "")


def test_what_is_under_way_is_told_and_can_be_stopped(adapter: HubFiles, held: Held, own_jobs: Jobs) -> None:
    test = named(opened(), "owner/name/last")
    assert held.reached.wait(30)
    test.run()
    assert "It opens by itself when it is here" in shown(test)
    assert [b.label for b in test.button if b.label == "Stop"]
    (job,) = own_jobs._jobs.values()
    job.cancel()  # what the button does, in a part of the page that runs by itself in a browser alone
    held.released.set()
    after(test, lambda page: "stopped" in shown(page))
    assert source(test) == "demo:kinship"
    test = named(test, "owner/name/last")
    after(test, lambda page: source(page).startswith("owner/name@"))


def test_a_fetch_does_not_wait_for_the_model_nor_the_model_for_it(
    adapter: HubFiles, held: Held, own_jobs: Jobs
) -> None:
    release = threading.Event()
    long = own_jobs.submit("long", lambda job, models: release.wait(30))
    test = named(opened(), "owner/name/last")
    assert held.reached.wait(30)
    assert own_jobs.running is long
    held.released.set()
    after(test, lambda page: source(page).startswith("owner/name@"))
    release.set()


def test_work_that_was_begun_meanwhile_is_kept(adapter: HubFiles, held: Held) -> None:
    test = named(opened(), "owner/name/last")
    assert held.reached.wait(30)
    workspace = test.session_state["workspace"]
    changed = workspace.with_edit("scope", scope="all")
    test.session_state["workspace"] = changed
    held.released.set()
    name = "Open owner/name@" + adapter.refs["main"][:7]
    after(test, lambda page: any(name in b.label.replace("\\", "") for b in page.button))
    assert test.session_state["workspace"].history == changed.history
    next(b for b in test.button if name in b.label.replace("\\", "")).click().run()
    assert source(test).startswith("owner/name@")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("owner/nothing", "no model 'owner/nothing' on the hub"),
        ("owner/name/../x", "leads out of"),
        ("something", "write owner/name"),
    ],
)
def test_what_cannot_be_had_is_a_message_and_changes_nothing(adapter: HubFiles, name: str, words: str) -> None:
    test = named(opened(), name)
    after(test, lambda page: words in " ".join(error.value for error in page.error).replace("\\", ""))
    assert source(test) == "demo:kinship"


@pytest.mark.parametrize("kind", ["Hub", "Folder"])
def test_adapters_below_a_name_are_offered_and_the_chosen_one_opens(adapter: HubFiles, kind: str) -> None:
    test = AppTest.from_file(str(MAIN), default_timeout=60).run()
    test.button_group(key="open-kind").set_value(kind).run()
    test.text_input(key="open-hub-name" if kind == "Hub" else "open-path").set_value("owner/name")
    next(b for b in test.button if b.label == "Open").click().run()
    after(test, lambda page: any(box.key == "open-found-choice" for box in page.selectbox))
    assert not test.error
    assert source(test) == "demo:kinship"
    assert test.selectbox(key="open-found-choice").value == "owner/name/last"
    next(b for b in test.button if b.label == "Open this one").click().run()
    after(test, lambda page: source(page).startswith("owner/name@"))


def test_a_name_in_the_field_for_folders_is_fetched_too(adapter: HubFiles) -> None:
    test = AppTest.from_file(str(MAIN), default_timeout=60).run()
    test.button_group(key="open-kind").set_value("Folder").run()
    test.text_input(key="open-path").set_value("owner/name/last")
    next(b for b in test.button if b.label == "Open").click().run()
    after(test, lambda page: source(page).startswith("owner/name@"))


def test_another_adapter_of_the_hub_stands_beside_the_open_one(adapter: HubFiles) -> None:
    test = AppTest.from_file(str(MAIN), default_timeout=60).run()
    test.switch_page("views/geometry.py").run()
    test.text_input(key="geometry-other-path").set_value("owner/name/last").run()
    next(b for b in test.button if b.label == "Compare").click().run()
    after(test, lambda page: "geometry-other" in page.session_state)
    assert test.session_state["geometry-other"] == f"owner/name@{adapter.refs['main']}/last"


def test_a_page_that_is_opened_again_fetches_nothing(
    hub: HubServer, adapter: HubFiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    workspace = workspace_for("owner/name/last")
    name = "0" * 12
    saved.save(workspace, name)
    hub.asked.clear()
    assert saved.restore(name).adapter.source == workspace.adapter.source
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "emptied"))
    assert saved.restore(name) is None
    assert hub.asked == []
