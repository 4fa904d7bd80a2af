"""Whom the edit helps and hurts: a bar a row, and the rows that are shown measured with the model."""

import re
import shutil
from pathlib import Path

from playwright.sync_api import expect

from tests.e2e.driving import LONG, fresh, no_message_of_failure, rested
from tests.e2e.surgery_page.board import SOON, Visit, drawn

SHIPPED = 128  # rows that the demo's sensitivities were measured on


def test_every_row_has_its_bar_and_those_that_are_shown_are_measured(
    visit: Visit, app_url: str, app_home: Path
) -> None:
    shutil.rmtree(app_home / "row-changes", ignore_errors=True)  # what an earlier visit measured is found again
    page = visit()
    page.goto(fresh(app_url, "surgery"))
    drawn(page)
    page.get_by_text("Whom it helps and hurts").click()
    expect(page.get_by_text(re.compile(rf"Expected to help \d+ of {SHIPPED} calibration rows"))).to_be_visible(
        timeout=SOON
    )
    expect(page.locator(".js-plotly-plot .barlayer .point")).to_have_count(SHIPPED, timeout=SOON)
    page.get_by_role("slider", name="Rows of each kind").press("Home")
    page.get_by_role("button", name="Measure these 2 rows").click(timeout=SOON)
    expect(page.get_by_role("button", name="All shown are measured")).to_be_disabled(timeout=LONG)
    rested(page)
    expect(page.locator(".js-plotly-plot .scatterlayer .point")).to_have_count(2, timeout=SOON)
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    no_message_of_failure(page)
