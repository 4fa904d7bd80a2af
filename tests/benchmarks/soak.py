"""Two hours of clicks in a row: does the server's memory stay flat, and its log free of errors?

    python -m tests.benchmarks.soak
    python -m tests.benchmarks.soak --home FOLDER --acts 300    # caches of an earlier run; what is measured joins them

A person acts about every five seconds, so two hours are 1,440 acts; here each follows as soon as the page
has come to rest. Several tabs, each in a browser context of its own, go about the pages on the two demo
adapters and on a synthetic one that is opened by its path; now and then a tab is reloaded, or closed and
opened anew. `--seed` fixes the lots. Memory is that of the server's process and its children, read every few
acts once the server is idle and holds the demo's base model. It begins with every kind of act, one after another, as
much is loaded at its first use. Warm-up is the first quarter, or longer, until every tab has seen every page.
Prints what was done and found, as Markdown; exit status 1 where memory grew by 5 % or anything failed.
"""

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Error, Page, expect, sync_playwright

from tests.benchmarks.board_latency import machine
from tests.benchmarks.soak_acts import ACTS, Act, Desk, Skipped
from tests.e2e.browser import find_chromium
from tests.e2e.driving import FLAGS, LONG, Server, console_error, fresh, go, measured_demo, rested, workspace_id
from tests.helpers.models import save_adapter, save_model, tiny_llama

GROWTH = 0.05
EVERY = 30  # acts between two readings of the memory
IDLE = 15.0  # % of a core: below it the server counts as idle
IDLE_S = 300.0
PATHS = {name: name.lower() for name in ACTS} | {"Adapter": ""}
OFTEN = {"Geometry": 2, "Spectra": 2, "Surgery": 4, "Evaluate": 2}  # a person goes there so many times as often
# of all acts, the share that changes the page, reloads it, or closes the tab and opens one
MOVE, RELOAD, REOPEN = 0.16, 0.02, 0.015
LOGGED = re.compile(r"\b(ERROR|CRITICAL|Traceback|Exception|[A-Z]\w*Error)\b")
# what an edit by lot may earn: no failure, but a refusal that is told as it should be
REFUSED = re.compile("would take all of the norm")
MB = 1e6
KINDS = {"resident": "resident", "own": "of it not mapped from a file"}
_PARKED = "prompt answered before a reading, not counted"


@dataclass
class Found:
    """What went wrong, by kind, in the order it was seen."""

    uncaught: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Reading:
    """The server's memory after so many acts, in bytes; `own` is what is not mapped from a file."""

    acts: int
    resident: int
    own: int


class Tab:
    """One page in a context of its own."""

    def __init__(self, browser: Browser, found: Found) -> None:
        self._browser, self._found = browser, found
        self._context: BrowserContext | None = None
        self._before: set[str] = set()
        self._opened = ("", "")
        self.page: Page
        self.at = ""
        self.seen: set[str] = set()

    def open(self, address: str, at: str) -> None:
        """Leave what is open, and open this address in a new context."""
        self.close()
        self._opened = (address, at)
        self._context = self._browser.new_context(viewport={"width": 1280, "height": 800})
        self.page = self._context.new_page()
        self.page.on("console", self._told)
        self.page.on("pageerror", lambda error: self._found.uncaught.append(error.stack or error.message))
        self.page.on("crash", lambda _: self._found.uncaught.append("the page crashed"))
        self._before = set()
        self.page.goto(address)
        self._arrived(at)

    def again(self) -> None:
        """Open what was opened last once more."""
        self.open(*self._opened)

    def close(self) -> None:
        if self._context is not None:
            self._context.close()

    def go(self, name: str) -> None:
        go(self.page, name)
        self._arrived(name)

    def settle(self) -> None:
        """Wait for rest, and see where it is: an act may lead to another page."""
        rested(self.page)
        for name in ACTS:
            if self.page.get_by_role("heading", name=name, exact=True).count():
                self.at = name
                self.seen.add(name)

    def reload(self) -> None:
        self.page.reload()
        self._arrived(self.at)

    def unfold(self) -> None:
        """Close what lies over the page, as a dialog does."""
        if self.page.get_by_role("dialog").count() or self.page.get_by_test_id("stPopoverBody").count():
            self.page.keyboard.press("Escape")
            self.page.wait_for_timeout(200)
            rested(self.page)

    def look(self, act: str) -> None:
        """Take note of messages of failure that were not there before."""
        alerts = self.page.locator(
            "[data-testid=stAlertContentError], [data-testid=stException]"
        ).all_inner_texts()
        self._found.shown += [
            f"{self.at}, {act}: {text}" for text in alerts if text not in self._before and not REFUSED.search(text)
        ]
        self._before = set(alerts)

    def _arrived(self, at: str) -> None:
        expect(self.page.get_by_role("heading", name=at, exact=True)).to_be_visible(timeout=LONG)
        rested(self.page)
        self.at = at
        self.seen.add(at)

    def _told(self, message: ConsoleMessage) -> None:
        if error := console_error(message):
            self._found.console.append(error)


class Soak:
    """The tabs, their lots, and what comes of them."""

    def __init__(
        self,
        browser: Browser,
        url: str,
        home: Path,
        server: psutil.Process,
        desk: Desk,
        records: list[dict[str, Any]],
    ) -> None:
        self._browser, self._url, self._home, self._server = browser, url, home, server
        self._desk, self._rng, self._records = desk, desk.rng, records
        self._made: list[Path] = []
        self.found = Found()
        self._parked = Tab(browser, self.found)
        self.done: Counter[str] = Counter()
        self.skipped = 0
        self.readings: list[Reading] = []
        self.warm: int | None = None  # the acts after which every tab had seen every page

    def run(self, acts: int, tabs: int) -> None:
        self._parked.open(f"{self._url}/surgery?w={self._copy(self._records[0])}", "Surgery")
        opened = [Tab(self._browser, self.found) for _ in range(tabs)]
        for number, tab in enumerate(opened):
            self._open(tab, self._copy(self._records[number % len(self._records)]))
        self._each_once(opened[0])
        while self.acts < acts:
            self._act(self._rng.choice(opened))
            if self.warm is None and all(tab.seen == set(ACTS) for tab in opened):
                self.warm = self.acts
            if self.acts >= len(self.readings) * EVERY:
                self.readings.append(self._reading())
        for tab in (*opened, self._parked):
            tab.close()
        for file in self._made:
            file.unlink(missing_ok=True)  # so that a visit to this home does not open it

    @property
    def acts(self) -> int:
        return self.done.total() - self.done[_PARKED]

    def _each_once(self, tab: Tab) -> None:
        """Every kind of act that can be done where it stands, one after another."""
        for name, own in ACTS.items():
            for act in own:
                if tab.at != name:
                    self._tried(tab, _moved(tab, name))
                self._tried(tab, act)

    def _act(self, tab: Tab) -> None:
        lot = self._rng.random()
        if lot < MOVE:
            others = [name for name in ACTS if name != tab.at]
            (other,) = self._rng.choices(others, [OFTEN.get(name, 1) for name in others])
            act = _moved(tab, other)
        elif lot < MOVE + RELOAD:
            act = Act("page reloaded", 0, lambda *_: tab.reload())
        elif lot < MOVE + RELOAD + REOPEN:
            act = Act("tab closed and opened", 0, lambda *_: self._reopen(tab))
        else:
            own = ACTS[tab.at]
            (act,) = self._rng.choices(own, [each.weight for each in own])
        self._tried(tab, act)

    def _tried(self, tab: Tab, act: Act) -> None:
        """Do it and look at what came of it; a page that does not come to rest is given up for a new one."""
        try:
            tab.unfold()
            act.do(tab.page, self._desk)
            tab.settle()
            tab.look(act.kind)
            self.done[act.kind] += 1
        except Skipped:
            self.skipped += 1
        except (Error, AssertionError) as error:
            self.done[act.kind] += 1
            self.found.stuck.append(f"{tab.at}, {act.kind}: {' '.join(str(error).split())[:400]}")
            print(f"{tab.page.url}, {act.kind}: {error}", file=sys.stderr)
            tab.again()

    def _copy(self, record: dict[str, Any]) -> str:
        """The id of a workspace that holds this record."""
        file = self._home / "workspaces" / f"{uuid4().hex[:12]}.json"
        file.write_text(json.dumps(record), encoding="utf-8")
        self._made.append(file)
        return file.stem

    def _open(self, tab: Tab, name: str) -> None:
        """The tab on any page of the workspace of this id."""
        at = self._rng.choice(list(ACTS))
        tab.open(f"{self._url}/{PATHS[at]}?w={name}", at)

    def _reopen(self, tab: Tab) -> None:
        """A visit that finds the tab's workspace again, or a new one."""
        name = workspace_id(tab.page)
        tab.close()
        self._open(tab, name if self._rng.random() < 0.5 else self._copy(self._rng.choice(self._records)))

    def _reading(self) -> Reading:
        """The memory of the server once it does nothing, with the demo's base model in memory."""
        self._idle()
        self._tried(self._parked, Act(_PARKED, 0, answered))
        self._idle()
        told = [each.memory_info() for each in (self._server, *self._server.children(recursive=True))]
        resident = sum(each.rss for each in told)
        # Linux alone tells apart what is mapped from files, as the weights of a model are
        reading = Reading(self.acts, resident, resident - sum(getattr(each, "shared", 0) for each in told))
        print(f"{reading.acts} acts: {reading.resident / MB:.0f} MB, own {reading.own / MB:.0f}", file=sys.stderr)
        return reading

    def _idle(self) -> None:
        until = time.monotonic() + IDLE_S
        while self._server.cpu_percent(1.0) > IDLE and time.monotonic() < until:
            pass


def _moved(tab: Tab, name: str) -> Act:
    return Act("page changed", 0, lambda *_: tab.go(name))


def answered(page: Page, desk: Desk) -> None:
    """A short answer of the model; a job before may have used the small one."""
    if not page.get_by_role("button", name="Answer", exact=True).is_visible():
        page.get_by_role("tab", name="Try it").click()
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible(timeout=LONG)
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0, timeout=LONG)


def growth(readings: list[Reading], start: int) -> dict[str, tuple[float, float]]:
    """By kind of memory, its median in the first and in the last fifth of the readings from act `start` on."""
    warm = [reading for reading in readings if reading.acts >= start] or readings[-1:]
    fifth = max(1, len(warm) // 5)
    return {
        kind: (
            float(np.median([getattr(reading, kind) for reading in warm[:fifth]])),
            float(np.median([getattr(reading, kind) for reading in warm[-fifth:]])),
        )
        for kind in KINDS
    }


def synthetic(folder: Path, rng: random.Random) -> Desk:
    """A small adapter with its base model and rows, and a folder to export to."""
    model = tiny_llama(num_hidden_layers=8)
    base, adapter = save_model(model, folder / "base"), save_adapter(model, folder / "synthetic")
    files = []
    for name in ("rows", "held-out"):
        rows = [{"prompt": f"{name[0]} {a} + {b} = ?", "answer": str(a + b)} for a in range(10) for b in range(10)]
        files.append(folder / f"{name}.jsonl")
        files[-1].write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return Desk(rng, adapter, base, files[0], files[1], folder / "exports")


def measured_synthetic(browser: Browser, url: str, home: Path, desk: Desk) -> dict[str, Any]:
    """The record of a workspace on the synthetic adapter, opened by path and calibrated by hand."""
    tab = Tab(browser, Found())
    tab.open(fresh(url), "Adapter")
    acts = {act.kind: act.do for page in ACTS.values() for act in page}
    surely(acts["adapter opened by path, base chosen"], tab.page, desk)
    tab.go("Spectra")
    surely(acts["job: small calibration"], tab.page, desk)
    expect(tab.page.get_by_text("Measured on")).to_be_visible(timeout=LONG)
    rested(tab.page)
    file = home / "workspaces" / f"{workspace_id(tab.page)}.json"
    tab.close()
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return record


def surely(do: Callable[[Page, Desk], None], page: Page, desk: Desk) -> None:
    """Do what the soak begins with, as soon as the page has the controls for it."""
    for _ in range(20):
        with suppress(Skipped):
            do(page, desk)
            rested(page)
            return
        page.wait_for_timeout(1000)
    sys.exit("the synthetic adapter could not be opened and calibrated")


def report(soak: Soak, log: str, start: int, minutes: float, tabs: int, version: str) -> tuple[str, bool]:
    found = soak.found
    logged = [line for line in log.splitlines() if LOGGED.search(line)]
    memory = growth(soak.readings, start)
    grown = {kind: end / begin - 1 for kind, (begin, end) in memory.items()}
    troubles = {
        "lines of the server's log that tell of an error": logged,
        "uncaught errors in a page": found.uncaught,
        "errors in a page's console": found.console,
        "messages of failure on a page": found.shown,
        "acts after which a page did not come to rest": found.stuck,
    }
    lines = [
        f"{soak.acts:,} acts in {minutes:.0f} minutes over {tabs} tabs; {soak.skipped} more found nothing to press.",
        "",
        "| memory of the server | after warm-up, MB | at the end, MB | growth |",
        "|---|--:|--:|--:|",
        *(
            f"| {KINDS[kind]} | {memory[kind][0] / MB:.0f} | {memory[kind][1] / MB:.0f} | {grown[kind]:+.1%} |"
            for kind in memory
        ),
        "",
        f"Warm-up: {start} acts. Resident, MB, every {EVERY} acts: "
        + " ".join(f"{reading.resident / MB:.0f}" for reading in soak.readings),
        "",
        "| found | number |",
        "|---|--:|",
        *(f"| {name} | {len(found)} |" for name, found in troubles.items()),
        "",
        "| act | times |",
        "|---|--:|",
        *(f"| {kind} | {times} |" for kind, times in soak.done.most_common()),
        "",
        machine(version),
    ]
    for name, listed in troubles.items():
        lines += [f"\n{name}:", *(f"- {text}" for text in list(dict.fromkeys(listed))[:20])] if listed else []
    return "\n".join(lines), grown["resident"] < GROWTH and not any(troubles.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, help="the app's caches; a temporary folder where none is given")
    parser.add_argument("--acts", type=int, default=1440)
    parser.add_argument("--tabs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    path = find_chromium()
    if path is None:
        sys.exit("no Chromium found: `make browser` installs one")
    with tempfile.TemporaryDirectory() as scratch:
        home = options.home.resolve() if options.home else Path(scratch) / "home"
        log = Path(scratch) / "server.log"
        desk = synthetic(Path(scratch), random.Random(options.seed))
        server = Server(home, log)
        try:
            server.start()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
                records = [
                    measured_demo(browser, server.url, home),
                    measured_synthetic(browser, server.url, home, desk),
                ]
                soak = Soak(browser, server.url, home, psutil.Process(server.pid), desk, records)
                began = time.monotonic()
                soak.run(options.acts, options.tabs)
                minutes, version = (time.monotonic() - began) / 60, browser.version
                browser.close()
        finally:
            server.end()
        start = max(options.acts // 4, soak.warm or 0)
        text, fine = report(
            soak, log.read_text(encoding="utf-8", errors="replace"), start, minutes, options.tabs, version
        )
    print(text)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()
