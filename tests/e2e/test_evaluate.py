"""The Evaluate page in a real browser: proofs that outlive a reload, diagnostics, answers, the history."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.driving import LONG, fresh, no_message_of_failure, rested

Open = Callable[[], Page]
KINDS = ("run.json", "recipe.yaml", "environment.json", "answers.jsonl", "samples.parquet", "metrics.json")


@pytest.fixture
def opened(page: Page, app_url: str, app_home: Path, measured: dict[str, Any]) -> Open:
    """Opens the page on a copy of the measured workspace, the same copy each time."""
    name = uuid4().hex[:12]
    (app_home / "workspaces" / f"{name}.json").write_text(json.dumps(measured), encoding="utf-8")

    def open_() -> Page:
        page.goto(f"{app_url}/evaluate?w={name}")
        expect(page.get_by_role("heading", name="Evaluate", exact=True)).to_be_visible(timeout=30_000)
        rested(page)
        return page

    return open_


def fill(page: Page, **numbers: int) -> None:
    for label, number in numbers.items():
        field = page.get_by_role("spinbutton", name=label.replace("_", " "), exact=True)
        field.fill(str(number))
        field.press("Tab")
        rested(page)


def view(page: Page, name: str) -> None:
    page.get_by_test_id("stButtonGroup").get_by_text(name, exact=True).click()
    rested(page)


def prove(page: Page) -> None:
    page.get_by_role("button", name="Prove it", exact=True).click()
    begun = page.get_by_test_id("stProgress").or_(page.get_by_text("held-out examples. Unedited"))
    expect(begun.first).to_be_visible(timeout=LONG)


def proven(page: Page, examples: int) -> None:
    expect(page.get_by_text(f"{examples} held-out examples. Unedited")).to_be_visible(timeout=LONG)
    rested(page)
    no_message_of_failure(page)


def test_a_proof_is_found_again_by_the_page_that_started_it_and_by_a_later_one(
    opened: Open, app_home: Path
) -> None:
    page = opened()
    fill(page, Examples=6, Random_controls=2)
    prove(page)
    page = opened()  # a reload while it runs, or just after
    proven(page, 6)
    expect(page.get_by_text("proof: 6 held-out")).to_be_visible()
    expect(page.get_by_text("of its 2 random controls").first).to_be_visible()
    page = opened()
    proven(page, 6)

    view(page, "Answers")
    page.get_by_text("All (6)").click()
    rested(page)
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    page.get_by_role("textbox", name="Search").fill("no word of any question")
    page.get_by_role("textbox", name="Search").press("Enter")
    expect(page.get_by_text("No example of this kind holds these words.")).to_be_visible(timeout=20_000)

    view(page, "Diagnostics")
    page.get_by_role("button", name="Fill Table 3").click()
    expect(page.get_by_text("Table 3, demo:kinship/test")).to_be_visible(timeout=LONG)
    no_message_of_failure(page)
    expect(page.get_by_role("button", name="Fill Table 3")).to_have_count(0)

    view(page, "History")
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    runs = [folder for folder in (app_home / "runs").iterdir() if (folder / "metrics.json").exists()]
    purposes = {json.loads((folder / "run.json").read_text(encoding="utf-8"))["purpose"] for folder in runs}
    assert {"proof", "energy"} <= purposes
    for folder in runs:
        assert {file.name for file in folder.iterdir()} == set(KINDS)


def test_one_tick_tells_scale_from_shape(opened: Open) -> None:
    page = opened()
    fill(page, Examples=6, Random_controls=0)
    page.get_by_text("Scale or shape?", exact=True).click()
    rested(page)
    prove(page)
    proven(page, 6)
    expect(page.get_by_text("Scale or shape, edit, answer loss").first).to_contain_text("a plain scale")
    expect(page.get_by_text("scale, same functional energy").first).to_be_visible()
    no_message_of_failure(page)


def test_generated_programs_stay_off_until_they_are_turned_on(opened: Open) -> None:
    page = opened()
    view(page, "Benchmark")
    page.get_by_role("combobox", name="Task").click()
    page.get_by_role("option", name="humaneval", exact=True).click()
    rested(page)
    button = page.get_by_role("button", name="Prove it", exact=True)
    expect(button).to_be_disabled()
    expect(page.get_by_text("they stay off until you turn them on")).to_be_visible()
    page.get_by_text("Run the programs that the model writes").click()
    rested(page)
    expect(button).to_be_enabled()


def test_rows_that_the_edit_was_made_on_are_refused(opened: Open) -> None:
    page = opened()
    page.get_by_role("textbox", name="Held-out rows").fill("demo:kinship/calibration")
    page.get_by_role("textbox", name="Held-out rows").press("Enter")
    rested(page)
    page.get_by_role("button", name="Prove it", exact=True).click()
    expect(page.get_by_text("evaluation rows were used for calibration or tuning")).to_be_visible(timeout=20_000)
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_a_mark_of_the_flow_opens_the_answers_that_went_that_way(page: Page, app_url: str) -> None:
    page.goto(fresh(app_url, "evaluate"))  # with the sensitivities that ship
    expect(page.get_by_role("heading", name="Evaluate", exact=True)).to_be_visible(timeout=30_000)
    rested(page)
    fill(page, Examples=6, Random_controls=0)
    page.get_by_text("Base model beside it", exact=True).click()
    rested(page)
    prove(page)
    proven(page, 6)
    expect(page.get_by_text("the base has 0 right. Training broke none of them")).to_be_visible()
    flow = page.locator("[class*=st-key-ledger-flow]")
    flow.scroll_into_view_if_needed()
    answers = page.get_by_role("button", name="Download these as CSV")
    expect(answers).to_have_count(0)
    # a layer of plotly's own lies over the marks and takes the mouse
    flow.locator("path.point").last.click(force=True)
    expect(answers).to_be_visible(timeout=20_000)
    expect(page.get_by_role("radio", name=re.compile("wrong throughout"))).to_be_checked()


def test_a_guard_that_was_typed_is_asked_and_drawn_against_the_own_task(opened: Open) -> None:
    page = opened()
    fill(page, Examples=4, Random_controls=1)
    guards = page.get_by_role("combobox", name="Guards")
    guards.click()
    guards.fill("text: demo:text, limit: 2, window: 24, stride: 12")
    guards.press("Enter")
    rested(page)
    guards.press("Escape")  # what is offered lies over the button
    prove(page)
    proven(page, 4)
