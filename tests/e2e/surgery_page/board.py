"""The board of the Surgery page as a person finds it: its controls, its bars, its history."""

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.e2e.driving import rested

SOON = 30_000  # a round trip on two busy cores
COUNT = "(kind => window.boardEvents.filter(each => each.kind === kind).length)"

Record = dict[str, Any]
Visit = Callable[[], Page]
Open = Callable[..., Page]


def drawn(page: Page) -> None:
    expect(expectation(page)).to_contain_text("±", timeout=60_000)
    rested(page)


def expectation(page: Page) -> Locator:
    """What is expected on held-out rows."""
    return page.locator(".board .numbers dd").first


def first_order(page: Page) -> Locator:
    """The small print under it: its band, and what the calibration rows promise."""
    return page.locator(".board .numbers small").first


def gain_field(page: Page) -> Locator:
    return page.locator('.board input[data-role="gain"]')


def gain(page: Page) -> float:
    return float(gain_field(page).input_value())


def slider(page: Page, name: str) -> Locator:
    return page.locator(f'.board input[type=range][name="{name}"]')


def button(page: Page, role: str) -> Locator:
    return page.locator(f'.board button[data-role="{role}"]')


def history(page: Page) -> Locator:
    """Where the board shows the number and the label of the present plan."""
    return page.locator('.board [data-role="step"]')


def at(page: Page, step: int, label: str = "") -> None:
    """Wait until the history shows `step`, whose label holds `label`."""
    expect(history(page)).to_contain_text(re.compile(rf"(?<!\d){step} of \d+: .*{re.escape(label)}"), timeout=SOON)
    rested(page)


def count(page: Page, kind: str) -> int:
    return int(page.evaluate(COUNT, kind))


def confirmed(page: Page, act: Callable[[], object]) -> None:
    """Do `act` and wait until its confirmed numbers are drawn."""
    before = count(page, "confirm")
    act()
    page.wait_for_function(f"before => {COUNT}('confirm') > before", arg=before, timeout=SOON)
    expect(page.locator(".board .numbers.pending")).to_have_count(0)
    rested(page)


def bars(page: Page) -> Locator:
    return page.locator('.board canvas[data-role="bars"]')


def gain_of(page: Page, component: int) -> float:
    """Pick a component with the keyboard and read its gain."""
    bars(page).focus()
    for _ in range(64):
        if page.locator('.board [data-role="picked"]').inner_text() == f"component {component}":
            return gain(page)
        selected = count(page, "select")
        bars(page).press("ArrowRight")
        page.wait_for_function(f"before => {COUNT}('select') > before", arg=selected)
    raise AssertionError(f"component {component} cannot be picked")
