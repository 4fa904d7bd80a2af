"""Starting the app's own server and going about its pages, for the browser tests and the latency benchmarks."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import parse_qs, urlparse
from urllib.request import ProxyHandler, build_opener
from uuid import uuid4

from playwright.sync_api import Browser, ConsoleMessage, Page, expect

ROOT = Path(__file__).resolve().parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
START_S = 120.0  # a cold start on two busy cores
LONG = 240_000  # a first load of the base model converts it, on two busy cores
# Streamlit looks for its server below a page's own path first
PROBES = ("/_stcore/health", "/_stcore/host-config")
# keeps what the components tell of their repaints
LISTEN = """
window.boardEvents = []
document.addEventListener("board", (event) => window.boardEvents.push(event.detail))
"""


@dataclass(frozen=True)
class Start:
    """What is typed to start the app, in which folder, and the environment there."""

    command: Sequence[str] = (sys.executable, "-m", "app")
    folder: Path = ROOT
    environment: Mapping[str, str] = field(default_factory=os.environ.copy)


class Server:
    """The app's own server on a home, at one address however often it is started. It writes to the file `log`.

    It is started as `how` says: the checkout's own unless told otherwise.
    """

    def __init__(self, home: Path, log: Path, how: Start | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._home, self._log, self._how = home, log, how or Start()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Returns once it answers; raises `RuntimeError` with its last words if it does not."""
        options = {"address": "127.0.0.1", "port": self.port, "headless": "true", "fileWatcherType": "none"}
        command = [*self._how.command]
        command += [word for name, value in options.items() for word in (f"--server.{name}", str(value))]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._how.folder,
                env={**self._how.environment, "SURGERY_HOME": str(self._home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if not _healthy(self._process, self.url):
            tail = self._log.read_text(errors="replace")[-4000:]
            raise RuntimeError(f"the app's server did not start (exit status {self._process.poll()}):\n{tail}")

    def end(
        self, signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGKILL), wait: float = 10.0
    ) -> None:
        """End the server and whatever it started, which are one process group; the next signal where one does not do."""
        process, self._process = self._process, None
        if process is None:
            return
        for each in signals:
            try:
                os.killpg(process.pid, each)
            except ProcessLookupError:
                break
            try:
                process.wait(timeout=wait)
                break
            except subprocess.TimeoutExpired:
                continue
        process.wait(timeout=wait)


@contextmanager
def serving(home: Path, log: Path | None = None, how: Start | None = None) -> Iterator[str]:
    """The address of a server on `home` that ends with the context; it writes to `log` where one is given."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(home, log or Path(folder) / "log", how)
        try:
            server.start()
            yield server.url
        finally:
            server.end()


def _healthy(server: subprocess.Popen[bytes], url: str) -> bool:
    direct = build_opener(ProxyHandler({}))
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with direct.open(f"{url}/_stcore/health", timeout=5) as answer:
                if answer.status == 200:
                    return True
        except (URLError, OSError):
            pass
        time.sleep(0.1)
    return False


def fresh(app_url: str, path: str = "") -> str:
    """The address of `path` in a workspace of its own; a bare address would find an earlier visit's again."""
    return f"{app_url}/{path}?w={uuid4().hex[:12]}"


def go(page: Page, name: str) -> None:
    page.get_by_role("link", name=name, exact=True).first.click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible(timeout=30_000)
    rested(page)


def rested(page: Page) -> None:
    page.wait_for_timeout(150)
    page.wait_for_function(
        "() => document.querySelector('.stApp')?.getAttribute('data-test-script-state') === 'notRunning'",
        timeout=60_000,
    )


def until(true: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def no_message_of_failure(page: Page) -> None:
    expect(page.get_by_test_id("stException")).to_have_count(0)
    expect(page.locator("[data-testid=stAlertContentError]")).to_have_count(0)


def console_error(message: ConsoleMessage) -> str | None:
    """What a page's console tells as an error, with the address it is about; None for all else that it tells."""
    url = message.location["url"]
    return f"{message.text} ({url})" if message.type == "error" and not url.endswith(PROBES) else None


def measured_demo(browser: Browser, url: str, home: Path, *, examples: int | None = None) -> dict[str, Any]:
    """The record of a workspace on the demo after a calibration, as the server keeps it.

    On as many examples as the page proposes, or on so many.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(fresh(url, "spectra"))
    rested(page)
    page.get_by_role("button", name="Other settings").click()  # than those of what ships
    if examples is not None:
        field = page.get_by_label("Examples", exact=True)
        field.fill(str(examples))
        field.press("Tab")
        rested(page)
    page.get_by_role("button", name="Calibrate with these settings").click()
    done = page.get_by_text(re.compile("Measured on"))  # what ships reads: measured on
    expect(page.get_by_role("button", name="Stop", exact=True).or_(done).first).to_be_visible(timeout=LONG)
    # on two cores a page that shows the progress takes half of them
    address = page.url
    page.goto("about:blank")
    until(lambda: list((home / "sensitivities").glob("*.safetensors")), LONG / 1000)
    page.goto(address)
    expect(done).to_be_visible(timeout=LONG)
    rested(page)
    name = workspace_id(page)
    context.close()
    record: dict[str, Any] = json.loads((home / "workspaces" / f"{name}.json").read_text(encoding="utf-8"))
    return record


def workspace_id(page: Page) -> str:
    (name,) = parse_qs(urlparse(page.url).query)["w"]
    return name
