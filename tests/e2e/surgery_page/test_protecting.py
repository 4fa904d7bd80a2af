"""A slice that is not to be hurt: its expectation stands beside the own one, and a point of the front is taken."""

from dataclasses import replace
from pathlib import Path

from playwright.sync_api import expect

from surgery import Sensitivity
from surgery.sensitivity import save_sensitivity
from tests.e2e.driving import no_message_of_failure, rested
from tests.e2e.surgery_page.board import SOON, Open, Record, at, expectation


def test_a_click_on_the_front_takes_its_point(
    opened: Open, app_home: Path, measured: Record, sensitivity: Sensitivity
) -> None:
    calibration = {**measured["calibration"], "seed": 1}
    # the components of every module in the opposite order: what helps one slice is another thing than what helps both
    values = {name: g[:, ::-1].copy() for name, g in sensitivity.values.items()}
    other = replace(sensitivity, values=values, provenance=replace(sensitivity.provenance, examples="others"))
    key = other.provenance.key
    save_sensitivity(other, app_home / "sensitivities" / f"{key}-{calibration['batch_size']}.safetensors")
    page = opened(protected=[{"plan": calibration, "sensitivity": key}])
    page.get_by_role("tab", name="Protect").click()
    expect(page.get_by_text("Expected, own slice")).to_be_visible(timeout=SOON)
    expect(page.get_by_text("Own slice against the protected one").first).to_be_visible(timeout=60_000)
    rested(page)
    points = page.locator(".js-plotly-plot .scatterlayer .points path")
    expect(points).to_have_count(8)
    box = points.nth(3).bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    rested(page)
    before = expectation(page).inner_text()
    page.get_by_role("button", name="Take this point").click()
    at(page, 2, "protected, μ")
    expect(expectation(page)).not_to_have_text(before, timeout=SOON)
    no_message_of_failure(page)
