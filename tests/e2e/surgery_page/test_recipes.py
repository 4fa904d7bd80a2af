"""Recipes that are kept, and one that is dropped on the page and run as a command."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import yaml
from playwright.sync_api import Locator, Page, expect

from tests.e2e.driving import go, no_message_of_failure, rested
from tests.e2e.surgery_page.board import SOON, Open, Record, at, confirmed, drawn, expectation

OPEN = "[data-testid=stButton] button:has-text('Open')"  # of a kept recipe


def keep_as(page: Page, name: str) -> None:
    rested(page)
    page.get_by_role("button", name="Keep as a recipe").click()
    page.get_by_role("textbox", name="Name", exact=True).fill(name)
    page.get_by_role("button", name="Keep", exact=True).click()
    rested(page)
    page.keyboard.press("Escape")


def card(page: Page, name: str) -> Locator:
    """The frame of one kept recipe."""
    title = page.get_by_text(f"{name} · ", exact=False)
    return page.locator("[data-testid=stColumn]").filter(has=title).filter(has=page.locator(OPEN)).last


def test_recipes_are_kept_duplicated_opened_and_deleted_and_a_name_is_never_html(opened: Open) -> None:
    page = opened()
    names = ["plain", "<b>bold</b>", "<img src=x onerror=alert(1)>", "*star* [a](b) $x$ `c`"]
    cards = page.locator(OPEN)
    for number, name in enumerate(names, start=1):
        keep_as(page, name)
        expect(cards).to_have_count(number, timeout=SOON)
        expect(page.get_by_text(f"{name} · grad_direction")).to_be_visible()
    assert page.locator(".stApp b, .stMarkdown img[src=x], .stMarkdown a[href=b]").count() == 0
    keep_as(page, "plain")
    expect(page.get_by_text("plain 2 · grad_direction")).to_be_visible(timeout=SOON)
    expect(cards).to_have_count(5)

    card(page, names[1]).get_by_role("button", name="content_copy").click()
    expect(page.get_by_text(f"{names[1]} copy · grad_direction")).to_be_visible(timeout=SOON)
    expect(cards).to_have_count(6)
    for number, name in ((5, f"{names[1]} copy"), (4, "plain 2")):
        card(page, name).get_by_role("button", name="delete").click()
        expect(page.get_by_text(f"{name} · grad_direction")).to_have_count(0, timeout=SOON)
        expect(cards).to_have_count(number)

    number = expectation(page).inner_text()
    confirmed(page, lambda: page.locator('.board select[data-role="policy"]').select_option("abs_select"))
    assert expectation(page).inner_text() != number
    card(page, "plain").locator(OPEN).click()
    at(page, 3, "recipe plain")
    expect(expectation(page)).to_have_text(number)
    page.reload()
    drawn(page)
    expect(cards).to_have_count(4)
    no_message_of_failure(page)


def test_a_dropped_recipe_is_opened_and_its_command_writes_the_folder_of_the_export_page(
    opened: Open, app_home: Path, measured: Record, tmp_path: Path
) -> None:
    page = opened(evaluation={**measured["evaluation"], "limit": 2, "random": 0})
    tab = page.get_by_role("tab", name="Recipe")
    tab.click()
    rested(page)
    page.get_by_text("Show the recipe").click()
    recipe = yaml.safe_load(page.locator("[data-testid=stCode] code").inner_text(timeout=SOON))
    recipe["edit"] |= {"policy": "smooth_abs", "knobs": {"amp": 1.5}, "energy": "l2"}
    file = tmp_path / "dropped.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    number = expectation(page).inner_text()
    page.get_by_test_id("stFileUploader").locator("input[type=file]").set_input_files(file)
    at(page, 2, "recipe opened")
    expect(expectation(page)).not_to_have_text(number)
    expect(page.locator('.board select[data-role="policy"]')).to_have_value("smooth_abs")
    expect(page.locator('.board select[data-role="energy"]')).to_have_value("l2")
    no_message_of_failure(page)

    page.get_by_role("button", name="Copy as command").click()
    command = page.locator("[data-testid=stCode] code").filter(has_text="python -m surgery run")
    program, *words = shlex.split(command.inner_text(timeout=SOON))
    assert program == "python"
    assert words[-2] == "--out"
    assert not Path(words[-1]).is_absolute()
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        env={**os.environ, "SURGERY_HOME": str(app_home)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr

    go(page, "Export")
    target = tmp_path / "exported"
    page.get_by_role("textbox", name="New folder").fill(str(target))
    page.get_by_role("button", name="Write and verify").click()
    expect(page.get_by_text("Byte-equal")).to_be_visible(timeout=SOON)
    written = {file.name: file.read_bytes() for file in target.iterdir()}
    assert written == {file.name: file.read_bytes() for file in (tmp_path / words[-1]).iterdir()}
