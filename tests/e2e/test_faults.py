"""What a person loses when the server is killed, the network is cut, a tab is closed or another person is at work: nothing.

A tiny model, so that thousands of rows take seconds; every result is compared with an uninterrupted one.
"""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan, EvaluationPlan, Row, plan_record
from surgery.edits import EditPlan, edit_record
from surgery.evaluation import BASELINE
from surgery.experiments import EDIT, Proof, prove
from surgery.policies import make_policy
from surgery.sensitivity import Sensitivity, calibrate, load_sensitivity
from surgery.spectra import decompose
from tests.e2e.driving import LONG, Server, go, no_message_of_failure, rested, until
from tests.e2e.relay import Relay
from tests.helpers.models import tiny_llama
from tests.helpers.rounding import assert_losses
from tests.helpers.workplace import Workplace, workplace, write_rows, write_workplace

ROWS = [Row(f"{a}+{b}=", str(a + b)) for a in range(80) for b in range(80)]
SEEN = 300  # rows of a calibration that takes five seconds at least
SOON = 60_000


@dataclass(frozen=True)
class Lab:
    """A server on a home of its own, and the tiny workplace that its workspaces are opened on."""

    server: Server
    place: Workplace
    seen: CalibrationPlan
    asked: EvaluationPlan

    def workspace(self, edit: EditPlan | None = None, *, measured: str | None = None) -> str:
        """The id of a new workspace on the tiny adapter, with an edit and a stored measurement."""
        name = uuid4().hex[:12]
        record = {
            "schema": 1,
            "adapter": {"source": self.place.adapter, "digest": open_adapter(self.place.adapter).digest},
            "base": plan_record(self.place.base),
            "calibration": plan_record(self.seen),
            "evaluation": plan_record(self.asked),
            "tuning": None,
            "sensitivity": measured,
            "history": [{"label": "start", "edit": edit_record(edit or EditPlan())}],
            "at": 0,
            "shelf": {},
        }
        file = self.place.home / "workspaces" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(record), encoding="utf-8")
        return name

    def stored(self, suffix: str = ".safetensors") -> list[Path]:
        return sorted((self.place.home / "sensitivities").glob(f"*{suffix}"))

    def runs(self) -> list[Path]:
        return sorted((self.place.home / "runs").glob("*"))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A server that has just been started."""
    place = workplace(write_workplace(tmp_path), tmp_path / "home")
    write_rows(Path(place.calibration.data), ROWS[:3200])
    write_rows(Path(place.evaluation.data), ROWS[3200:])
    place.home.mkdir()
    seen = replace(place.calibration, examples=SEEN, batch_size=1)
    asked = replace(place.evaluation, limit=80, random=2, scale=True, again=False, batch_size=4)
    server = Server(place.home, tmp_path / "server.log")
    server.start()
    try:
        yield Lab(server, place, seen, asked)
    finally:
        server.end()


@pytest.fixture
def tabs(browser: Browser) -> Iterator[Callable[[], Page]]:
    """Opens pages of 1280×800, each in a context of its own as another person's would be."""
    contexts = []

    def opened() -> Page:
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 800}))
        return contexts[-1].new_page()

    yield opened
    for context in contexts:
        with suppress(Exception):
            context.close()


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which nothing was ever done, for the uninterrupted results."""
    folder = tmp_path / "alone"
    monkeypatch.setenv("SURGERY_HOME", str(folder))
    return folder


def visit(page: Page, url: str, room: str, workspace: str) -> Page:
    page.goto(f"{url}/{room.lower()}?w={workspace}")
    expect(page.get_by_role("heading", name=room, exact=True)).to_be_visible(timeout=SOON)
    rested(page)
    return page


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name).click()


def same(first: Sensitivity, second: Sensitivity) -> None:
    assert first.provenance == second.provenance
    np.testing.assert_allclose(first.losses, second.losses, rtol=1e-12, atol=0)
    for name, values in first.values.items():
        np.testing.assert_allclose(values, second.values[name], rtol=1e-9, atol=1e-12)


def test_a_killed_server_goes_on_with_a_calibration_and_a_proof_and_the_page_comes_back_by_itself(
    lab: Lab, tabs: Callable[[], Page], alone: Path
) -> None:
    name = lab.workspace()
    page = visit(tabs(), lab.server.url, "Spectra", name)
    press(page, "Calibrate with these settings")
    until(lambda: lab.stored(".part"))
    lab.server.end([signal.SIGKILL])
    assert not lab.stored()
    lab.server.start()
    # the page notices that the server is back, and finds its workspace by its address
    resume = page.get_by_role("button", name="Resume (")
    expect(resume).to_be_visible(timeout=SOON)
    done = int(resume.inner_text().split("(")[1].split()[0])
    assert 0 < done < SEEN
    resume.click()
    expect(page.get_by_text(f"Measured on {SEEN} examples")).to_be_visible(timeout=LONG)
    no_message_of_failure(page)
    [stored] = lab.stored()
    with lab.place.attach() as live:
        sensitivity = calibrate(live, lab.seen)
        same(load_sensitivity(stored), sensitivity)

        page = visit(page, lab.server.url, "Evaluate", name)
        press(page, "Prove it")
        until(lambda: any((run / "answers.jsonl").stat().st_size > 20_000 for run in lab.runs()))
        lab.server.end([signal.SIGKILL])
        [run] = lab.runs()
        assert not (run / "metrics.json").exists()
        kept = (run / "answers.jsonl").read_bytes()
        kept = kept[: kept.rfind(b"\n") + 1]
        lab.server.start()
        expect(page.get_by_text("was cut off; asked again as it was, it goes on")).to_be_visible(timeout=SOON)
        press(page, "Prove it")
        expect(page.get_by_text(f"{lab.asked.limit} held-out examples. Unedited")).to_be_visible(timeout=LONG)
        no_message_of_failure(page)
        assert lab.runs() == [run], "the run that was cut off is the one that ended"
        assert (run / "answers.jsonl").read_bytes().startswith(kept), "what was answered is not answered again"
        edits = {EDIT: EditPlan().apply(live.spectra, sensitivity)}
        whole = prove(live, Proof(lab.asked, edits, [lab.seen])).evaluation
    found = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["variants"]
    for variant in (BASELINE, EDIT):
        assert_losses(found[variant]["means"]["loss"], whole.scores[variant].loss.mean(), tiny_llama())
        assert found[variant]["means"]["exact"] == pytest.approx(whole.scores[variant].exact.mean(), abs=1e-12)


def test_a_server_that_is_told_to_stop_keeps_what_its_job_has_and_goes_at_once(
    lab: Lab, tabs: Callable[[], Page]
) -> None:
    page = visit(tabs(), lab.server.url, "Spectra", lab.workspace())
    press(page, "Calibrate with these settings")
    until(lambda: lab.stored(".part"))
    begun = time.monotonic()
    lab.server.end([signal.SIGTERM], wait=30.0)
    assert time.monotonic() - begun < 5.0
    assert lab.stored(".part")
    lab.server.start()
    expect(page.get_by_role("button", name="Resume (")).to_be_visible(timeout=SOON)


def test_a_network_that_is_cut_for_a_minute_and_a_closed_tab_stop_no_job(
    lab: Lab, tabs: Callable[[], Page]
) -> None:
    with Relay(lab.server.port) as wire:
        name = lab.workspace()
        page = visit(tabs(), wire.url, "Spectra", name)
        press(page, "Calibrate with these settings")
        until(lambda: lab.stored(".part"))
        wire.cut()
        cut = time.monotonic()
        assert not lab.stored()
        expect(page.get_by_test_id("stApp")).not_to_have_attribute(
            "data-test-connection-state", "CONNECTED", timeout=SOON
        )

        # meanwhile another person starts a job, closes the tab and opens it again
        other = lab.workspace(EditPlan(make_policy("random_index", {})))
        second = visit(tabs(), lab.server.url, "Evaluate", other)
        press(second, "Prove it")
        expect(second.get_by_text("Evaluation on").first).to_be_visible(timeout=SOON)
        second.context.close()
        until(lambda: any((run / "metrics.json").exists() for run in lab.runs()))
        second = visit(tabs(), lab.server.url, "Evaluate", other)
        expect(second.get_by_text(f"{lab.asked.limit} held-out examples. Unedited")).to_be_visible(timeout=SOON)
        no_message_of_failure(second)

        assert lab.stored(), "the calibration ended while its page was away"
        time.sleep(max(0.0, 60.0 - (time.monotonic() - cut)))
        wire.mend()
        expect(page.get_by_text(f"Measured on {SEEN} examples")).to_be_visible(timeout=90_000)
        no_message_of_failure(page)
        assert f"w={name}" in page.url


def test_two_people_edit_and_prove_at_once_and_neither_finds_the_edit_of_the_other(
    lab: Lab, tabs: Callable[[], Page], alone: Path
) -> None:
    edits = {
        "first": EditPlan(make_policy("random_index", {"seed": 3}), scope="all"),
        "second": EditPlan(make_policy("scale", {"gamma": 0.5}), scope="all", energy="none"),
    }
    names = {who: lab.workspace(plan) for who, plan in edits.items()}
    pages = {who: visit(tabs(), lab.server.url, "Evaluate", name) for who, name in names.items()}
    for page in pages.values():
        press(page, "Prove it")
    # one job at a time on the model, and the other says what it waits for
    expect(pages["second"].get_by_text("waiting for the model, which is busy with")).to_be_visible(timeout=SOON)
    # the second turns a knob while the proof of its edit waits, and the result is not taken for the new edit's
    page = pages["second"]
    go(page, "Surgery")
    gamma = page.locator('.board input[type=range][name="gamma"]')
    gamma.focus()
    gamma.press("ArrowRight")
    step = page.locator('.board [data-role="step"]')
    expect(step).to_contain_text("2 of 2", timeout=SOON)
    until(lambda: len(lab.runs()) == 2 and all((run / "metrics.json").exists() for run in lab.runs()))
    go(page, "Evaluate")
    expect(page.get_by_text("This run is about another edit than the present one.")).to_be_visible(timeout=SOON)
    expect(page.get_by_text("proof: none yet")).to_be_visible()
    go(page, "Surgery")
    page.locator('.board button[data-role="undo"]').click()
    expect(step).to_contain_text("1 of 2", timeout=SOON)
    go(page, "Evaluate")
    for page in pages.values():
        expect(page.get_by_text(f"{lab.asked.limit} held-out examples. Unedited")).to_be_visible(timeout=LONG)
        no_message_of_failure(page)
        expect(page.get_by_text(f"proof: {lab.asked.limit} held-out")).to_be_visible()
        expect(page.get_by_text("another edit than the present one")).to_have_count(0)
    metrics = {}
    for run in lab.runs():
        about = json.loads((run / "run.json").read_text(encoding="utf-8"))
        policy = about["edits"][EDIT]["policy"]
        metrics[policy] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))["variants"]
    assert set(metrics) == {"random_index", "scale"}
    spectra = decompose(open_adapter(lab.place.adapter))
    with lab.place.attach() as live:
        for plan in edits.values():
            whole = prove(live, Proof(lab.asked, {EDIT: plan.apply(spectra, None)})).evaluation
            for variant in (BASELINE, EDIT):
                told = metrics[plan.policy.name][variant]["means"]["loss"]
                assert_losses(told, whole.scores[variant].loss.mean(), tiny_llama())
    losses = [found[EDIT]["means"]["loss"] for found in metrics.values()]
    assert abs(losses[0] - losses[1]) > 1e-3, "edits that do the same would hide a mix-up"
