"""The page of many adapters under a person's hand: a folder opened, compared, and a pair opened on Geometry."""

import re
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, expect

from surgery.adapter_sets import compare_members, matrix_values, open_set
from tests.e2e.driving import fresh, no_message_of_failure, rested
from tests.helpers.adapter_folders import factors, write_adapter_at

SOON = 60_000


def related(root: Path) -> Path:
    """Two adapters that agree and a stranger."""
    first = factors(4, seed=1)
    write_adapter_at(root / "first", first)
    write_adapter_at(root / "near", {key: each + np.float32(0.05) for key, each in first.items()})
    return write_adapter_at(root / "stranger", factors(4, seed=8)).parent


def first_row_second_column(page: Page) -> None:
    """A double click there; how matrix_figure.mjs lays out three members with names of eight letters."""
    left, top, cell = 14 + 6.1 * len("stranger 3"), 26, 64
    drawn = page.locator('.members canvas[data-role="matrix"]')
    drawn.dblclick(position={"x": left + 1.5 * cell, "y": top + 0.5 * cell})


def test_a_folder_is_compared_and_a_clicked_pair_opens_on_the_geometry_page(
    page: Page, app_url: str, tmp_path: Path
) -> None:
    root = related(tmp_path)
    page.goto(fresh(app_url, "many"))
    page.get_by_label("Folder above the adapters").fill(str(root))
    page.get_by_role("button", name="Open", exact=True).click()
    expect(page.get_by_text("3 adapters, 0 refused")).to_be_visible(timeout=SOON)
    page.get_by_role("tab", name="Matrix").click()
    page.get_by_role("button", name="Compare 3 adapters").click()
    drawn = page.locator('.members canvas[data-role="matrix"]')
    expect(drawn).to_have_attribute("aria-label", re.compile("Subspace overlap at k = 4"), timeout=SOON)

    adapters = open_set(root)
    matrix = compare_members(adapters, ["first", "near", "stranger"])
    label = drawn.get_attribute("aria-label") or ""
    strongest = matrix_values(matrix, "overlap", 4, "output").values[0, 1]
    assert "first and near" in label or "near and first" in label
    assert f"{strongest:.3f}" in label

    rested(page)
    drawn.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("button", name="Open on Geometry")).to_be_visible(timeout=SOON)
    first_row_second_column(page)
    expect(page.locator('.atlas canvas[data-role="map"]')).to_have_attribute(
        "aria-label", re.compile("of both adapters"), timeout=SOON
    )
    assert page.locator('.atlas select[data-role="view"]').input_value() == "adapters"
    no_message_of_failure(page)
