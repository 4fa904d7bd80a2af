"""Inside a component, under a person's hand: from Surgery's board to the rows, by keyboard, on a phone and in the dark."""

import re

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from surgery import open_adapter
from surgery.sensitivity import load_sensitivity, shipped_measurements
from tests.e2e.driving import LISTEN, LONG, fresh, no_message_of_failure, rested

SOON = 30_000
MODULE = "model.layers.29.mlp.down_proj"
# how far a colour lies from the background behind it, as WCAG counts it
CONTRAST = """(node) => {
  const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)); return 0.2126 * r + 0.7152 * g + 0.0722 * b }
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true })
  const layers = []
  for (let at = node; at; at = at.parentElement ?? at.getRootNode().host) layers.unshift(getComputedStyle(at).backgroundColor)
  for (const colour of layers) { paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1) }
  const [r, g, b] = paint.getImageData(0, 0, 1, 1).data
  const [high, low] = [light(`rgb(${r}, ${g}, ${b})`), light(getComputedStyle(node).color)].sort((a, b) => b - a)
  return (high + 0.05) / (low + 0.05)
}"""


def test_a_component_is_opened_from_the_board_and_read_by_keys_on_a_phone_in_the_dark(
    browser: Browser, app_url: str
) -> None:
    shipped = shipped_measurements(open_adapter("demo:kinship").digest)[0].file
    g = load_sensitivity(shipped).values[MODULE][:, 1]
    context = browser.new_context(viewport={"width": 390, "height": 844}, color_scheme="dark")
    page = context.new_page()
    uncaught: list[str] = []
    page.on("pageerror", lambda error: uncaught.append(error.message))
    page.add_init_script(LISTEN)
    page.goto(fresh(app_url, "surgery"))
    expect(page.locator('.board [data-role="module"]')).to_be_visible(timeout=60_000)
    rested(page)
    page.locator('.board [data-role="module"]').select_option(MODULE)
    page.locator('.board [data-role="bars"]').focus()
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Look inside the picked component").click()
    start = page.get_by_role("button", name="Look inside component 1")
    inside = page.locator(".inside")
    reads = inside.locator('[data-role="reads"] tr').first
    expect(start.or_(reads)).to_be_visible(timeout=SOON)
    if start.count():  # a home that is kept between runs has the look already
        start.click()
    expect(reads).to_be_visible(timeout=LONG)
    rested(page)
    expect(inside.locator('[data-role="told"]')).to_contain_text(f"over {g.size} examples")
    worst, best = int(g.argmax()), int(g.argmin())
    row = inside.locator('[data-role="harmed"] .row').first
    expect(row.locator(".count")).to_contain_text(f"Row {worst + 1} ·")
    expect(inside.locator('[data-role="helped"] .count').first).to_contain_text(f"Row {best + 1} ·")
    text = row.locator(".text")
    expect(text).to_have_attribute("aria-label", re.compile(rf"Row {worst + 1}, g \+.*tokens that harm: "))
    before = row.get_by_role("button", name=re.compile("show .* tokens before"))
    if before.count():
        before.click()
    total = text.locator(".token").count()
    text.focus()
    shares = []
    for _ in range(total):
        page.keyboard.press("ArrowRight")
        said = inside.locator('[data-role="readout"]').inner_text()
        shares.append(float(re.search(r"share ([+−][\d.e+-]+) of", said)[1].replace("−", "-")))  # type: ignore[index]
    # every share is told with four digits
    assert sum(shares) == pytest.approx(g[worst], abs=5e-4 * float(np.abs(shares).sum()))
    strongest = text.locator(".token").nth(int(np.abs(shares).argmax()))
    assert strongest.evaluate(CONTRAST) >= 4.5
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    expect(inside.get_by_role("table", name="Tokens that plus u raises").locator("tbody tr")).to_have_count(12)
    no_message_of_failure(page)
    assert not uncaught
    context.close()
