"""What runs the model: answers, the measured effect and a sweep of a knob."""

import re

from playwright.sync_api import expect

from tests.e2e.driving import LONG, no_message_of_failure, rested
from tests.e2e.surgery_page.board import SOON, Open, Record


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


def test_an_edit_is_measured_and_a_knob_swept(opened: Open, measured: Record) -> None:
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
    no_message_of_failure(page)
