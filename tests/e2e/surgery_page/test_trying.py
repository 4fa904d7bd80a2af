"""What runs the model: answers, the measured effect, a sweep of a knob and a search."""

import re

from playwright.sync_api import expect

from tests.e2e.driving import LONG, no_message_of_failure, rested
from tests.e2e.surgery_page.board import SOON, Open, Record, history


def test_a_prompt_is_answered_by_both_adapters_as_the_tokens_come(opened: Open) -> None:
    page = opened()
    page.get_by_role("tab", name="Try it").click()
    rested(page)
    prompt = page.get_by_role("textbox", name="Prompt")
    expect(prompt).not_to_have_value("")
    page.get_by_role("button", name="Answer", exact=True).click()
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible(timeout=SOON)
    answers = page.locator("[data-testid=stHtml]").filter(has=page.locator("div[style*=pre-wrap]"))
    expect(answers).to_have_count(2, timeout=120_000)
    for answer in answers.all():
        assert answer.inner_text().strip()
    for name in ("unedited", "edited"):
        expect(page.get_by_text(name, exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)
    no_message_of_failure(page)


def test_an_edit_is_measured_a_knob_swept_and_its_knobs_searched(opened: Open, measured: Record) -> None:
    page = opened(calibration={**measured["calibration"], "examples": 8})
    metric = page.locator("[data-testid=stMetric]")
    page.get_by_role("button", name="Measure this edit").click()
    for name in ("calibration", "tuning"):
        shown = metric.filter(has_text=f"Measured, {name} rows")
        expect(shown).to_contain_text(re.compile(r"[+−-]\d\.\d{4} ± \d\.\d{4}"), timeout=LONG)
    expect(metric.filter(has_text="First-order, calibration rows")).to_have_count(1)

    page.get_by_role("tab", name="Sweep a knob").click()
    page.get_by_role("spinbutton", name="Values").fill("3")
    page.get_by_role("button", name="Sweep", exact=True).click()
    curve = page.get_by_test_id("stPlotlyChart")
    expect(curve).to_contain_text("Loss along eta_suppress", timeout=LONG)
    expect(curve.locator(".scatterlayer .point").nth(2)).to_be_attached()

    page.get_by_role("tab", name="Search").click()
    page.get_by_role("spinbutton", name="Trials at most").fill("3")
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_text("3 trials looked at")).to_be_visible(timeout=LONG)
    rested(page)
    front = page.locator(".js-plotly-plot .scatterlayer .points path")
    box = front.first.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    rested(page)
    page.get_by_role("button", name="Keep as a recipe").last.click()
    expect(page.get_by_text("Kept recipes")).to_be_visible(timeout=SOON)
    page.get_by_role("button", name="Open on the board").click()
    expect(history(page)).to_contain_text(re.compile("trial . of search|1 of 1"), timeout=SOON)
    no_message_of_failure(page)
