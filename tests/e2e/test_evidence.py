"""The evidence of a sweep in a browser: marks that noise leaves grey, and a click on one that opens its run."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.driving import fresh, go, no_message_of_failure, rested
from tests.helpers.adapter_folders import factors, write_adapter_at
from tests.helpers.swept import METHODS, begun_sweep

SOON = 30_000


@pytest.fixture
def swept(app_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of two adapters whose sweep has ended in the home of the server: one wins, one ties."""
    monkeypatch.setenv("SURGERY_HOME", str(app_home))
    monkeypatch.setattr("surgery.files.places.RUNS", "runs")  # where the server looks
    for seed in (1, 2):
        write_adapter_at(tmp_path / f"seed-{seed}", factors(4, seed=seed))
    rng = np.random.default_rng(0)
    method = METHODS[1]
    begun_sweep(
        tmp_path,
        {
            "seed-1": {method: rng.normal(-0.3, 0.1, size=30)},
            "seed-2": {method: rng.normal(0.0, 0.1, size=30)},
        },
        name="two seeds",
    )
    yield tmp_path
    for kept in ("sweeps", "runs"):
        for entry in (app_home / kept).glob("*"):
            if entry.stat().st_mtime >= tmp_path.stat().st_mtime:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def test_a_click_on_an_adapters_mark_opens_its_run_on_evaluate(page: Page, app_url: str, swept: Path) -> None:
    page.goto(fresh(app_url, "many"))
    rested(page)
    page.get_by_label(re.compile("Folder above")).fill(str(swept))
    page.get_by_role("button", name="Open", exact=True).click()
    page.get_by_role("tab", name="Evidence").click(timeout=SOON)
    expect(page.get_by_text("1 win, 1 tie, 0 losses")).to_be_visible(timeout=2 * SOON)
    expect(page.get_by_text(re.compile("2 adapters are too few"))).to_be_visible()
    rested(page)
    no_message_of_failure(page)
    # one mark for each adapter and two for their mean
    marks = page.locator(".stPlotlyChart .scatterlayer path.point")
    expect(marks).to_have_count(4, timeout=SOON)
    page.wait_for_timeout(500)  # a mark that is still drawn takes no click
    marks.first.click(force=True)
    expect(page.get_by_role("heading", name="Evaluate", exact=True)).to_be_visible(timeout=SOON)
    rested(page)
    expect(page.get_by_text(re.compile(r"adapter: .*seed-1"))).to_be_visible()
    expect(page.get_by_text(re.compile("30 held-out examples"))).to_be_visible()
    no_message_of_failure(page)
    go(page, "Many adapters")  # the mark that was clicked does not open its run once more
    expect(page.get_by_role("tab", name="Evidence")).to_be_visible(timeout=SOON)
    page.get_by_role("tab", name="Evidence").click()
    expect(marks).to_have_count(4, timeout=SOON)
    rested(page)
    expect(page.get_by_role("heading", name="Many adapters", exact=True)).to_be_visible()
