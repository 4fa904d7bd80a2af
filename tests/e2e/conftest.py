"""A real browser on the real server: every test below this folder goes through both."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.e2e.browser import find_chromium

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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives a browser, and run it last: while Playwright is up, this thread has a running event loop."""

    def drives(item: pytest.Item) -> bool:
        return "browser" in getattr(item, "fixturenames", ())

    for item in filter(drives, items):
        item.add_marker("browser")
    items.sort(key=drives)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    path = find_chromium()
    if path is None:
        reason = "no Chromium found: `make browser` installs one, SURGERY_BROWSER names one"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def app_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server under test keeps its caches and exports."""
    return Path(os.environ.get("SURGERY_TEST_HOME") or tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def app_url(app_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app's own server, started for this session on a home of its own."""
    folder = tmp_path_factory.mktemp("app")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    options = {"address": "127.0.0.1", "port": port, "headless": "true", "fileWatcherType": "none"}
    command = [sys.executable, "-m", "app"]
    command += [word for name, value in options.items() for word in (f"--server.{name}", str(value))]
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "SURGERY_HOME": str(app_home)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        if not _healthy(server, url):
            tail = log.read_text(errors="replace")[-4000:]
            pytest.fail(f"the app's server did not start (exit status {server.poll()}):\n{tail}")
        yield url
    finally:
        _end(server)


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


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and whatever it started: they are one process group."""
    for end in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, end)
        except ProcessLookupError:
            break
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue
    server.wait(timeout=10)


@pytest.fixture
def console_errors() -> list[str]:
    """What the page wrote to the console as errors, for a test to look at."""
    return []


@pytest.fixture
def page(browser: Browser, console_errors: list[str]) -> Iterator[Page]:
    """An empty page of 1280×800 in a context of its own; an uncaught error in it fails the test."""
    uncaught: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.on("console", lambda message: console_errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: uncaught.append(error.stack or error.message))
    yield page
    context.close()
    if uncaught:
        pytest.fail("\n".join(["uncaught errors in the page:", *uncaught, "console errors:", *console_errors]))
