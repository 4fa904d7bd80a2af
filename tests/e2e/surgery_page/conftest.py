"""Every test opens a copy of one measured workspace, so that none waits for a calibration and none sees another's
edits. Whatever a page writes to its console as an error fails the test.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page

from tests.e2e.driving import LISTEN, console_error, workspace_id
from tests.e2e.surgery_page.board import Open, Record, Visit, drawn


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens empty pages, each in a context of its own; an error in any of them fails the test."""
    contexts, problems = [], []

    def told(message: ConsoleMessage) -> None:
        if error := console_error(message):
            problems.append(f"console: {error}")

    def new() -> Page:
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        contexts.append(context)
        context.add_init_script(LISTEN)
        page = context.new_page()
        page.on("console", told)
        page.on("pageerror", lambda error: problems.append(error.stack or error.message))
        return page

    yield new
    for context in contexts:
        context.close()
    assert not problems


@pytest.fixture
def opened(visit: Visit, app_url: str, app_home: Path, measured: Record) -> Open:
    """Opens the Surgery page on a copy of the measured workspace, with `changes` to its record."""

    def open_(**changes: Any) -> Page:
        name = uuid4().hex[:12]
        file = app_home / "workspaces" / f"{name}.json"
        file.write_text(json.dumps({**measured, **changes}), encoding="utf-8")
        page = visit()
        page.goto(f"{app_url}/surgery?w={name}")
        drawn(page)
        assert workspace_id(page) == name
        return page

    return open_
