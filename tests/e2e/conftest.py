"""A real browser on the real server: every test below this folder goes through both."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from surgery import Sensitivity, Spectrum, decompose, open_adapter
from surgery.sensitivity import load_sensitivity
from tests.e2e.browser import find_chromium
from tests.e2e.driving import FLAGS, measured_demo, serving

EXAMPLES = 32  # that the pages are shown with: a quarter of those they propose


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
def app_url(app_home: Path) -> Iterator[str]:
    """The address of the app's own server, started for this session on a home of its own."""
    with serving(app_home) as url:
        yield url


@pytest.fixture(scope="session")
def measured(browser: Browser, app_url: str, app_home: Path) -> dict[str, Any]:
    """The workspace that the server keeps of a page that has measured sensitivities; tests open copies of it."""
    return measured_demo(browser, app_url, app_home, examples=EXAMPLES)


@pytest.fixture(scope="session")
def spectra() -> dict[str, Spectrum]:
    """The demo's own, without the app."""
    return decompose(open_adapter("demo:kinship"))


@pytest.fixture(scope="session")
def sensitivity(measured: dict[str, Any], app_home: Path) -> Sensitivity:
    """What the server stored of that measurement."""
    key, batch = measured["sensitivity"], measured["calibration"]["batch_size"]
    return load_sensitivity(app_home / "sensitivities" / f"{key}-{batch}.safetensors")


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
