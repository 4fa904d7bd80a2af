"""The whole path in a real browser: open, look, calibrate, edit, prove, export, and redo it by command."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.driving import LONG, ROOT, fresh, go, no_message_of_failure, rested

PAGES = ("Adapter", "Geometry", "Many adapters", "Spectra", "Surgery", "Evaluate", "Export", "Paper")


def test_the_first_heatmap_is_painted_within_six_seconds(page: Page, app_url: str) -> None:
    began = time.monotonic()
    page.goto(fresh(app_url, "geometry"))
    page.locator('.atlas canvas[aria-label*="o_proj across layers"]').wait_for(timeout=60_000)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert time.monotonic() - began < 6.0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_1280_pixels_in_both_themes(page: Page, app_url: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(fresh(app_url))
    for name in PAGES:
        go(page, name)
        no_message_of_failure(page)
        overflow = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
        assert overflow <= 0, name


def test_a_path_that_is_no_adapter_is_a_message(page: Page, app_url: str, tmp_path: Path) -> None:
    page.goto(fresh(app_url))
    rested(page)
    page.get_by_text("Folder", exact=True).click()
    page.get_by_role("textbox", name="Adapter folder").fill(str(tmp_path))
    page.get_by_test_id("stBaseButton-primaryFormSubmit").click()
    expect(page.get_by_text("no adapter_config.json")).to_be_visible(timeout=20_000)
    expect(page.get_by_text("adapter: demo:kinship")).to_be_visible()


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_a_folder_of_checkpoints_offers_them(page: Page, app_url: str, tmp_path: Path, zipped: bool) -> None:
    demo = ROOT / "assets" / "demo" / "kinship"
    for step in (20, 100):
        at = tmp_path / "runs" / f"checkpoint-{step}"
        at.mkdir(parents=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(demo / name, at / name)
    page.goto(fresh(app_url))
    rested(page)
    page.get_by_text("Upload a zip" if zipped else "Folder", exact=True).click()
    if zipped:
        packed = shutil.make_archive(str(tmp_path / "runs"), "zip", tmp_path, "runs")
        page.locator('input[type="file"]').set_input_files(packed)
        expect(page.get_by_text("runs.zip")).to_be_visible(timeout=20_000)
    else:
        page.get_by_role("textbox", name="Adapter folder").fill(str(tmp_path / "runs"))
    page.get_by_test_id("stBaseButton-primaryFormSubmit").click()
    expect(page.get_by_text(re.compile("checkpoint-20, .*checkpoint-100"))).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Open this one").click()
    shown = "uploads/" if zipped else "runs/checkpoint-100"
    expect(page.get_by_text(re.compile(f"adapter: .*{shown}"))).to_be_visible(timeout=20_000)
    no_message_of_failure(page)


def test_the_demo_from_calibration_to_an_export_that_the_command_line_repeats(
    page: Page, app_url: str, app_home: Path, tmp_path: Path
) -> None:
    page.goto(fresh(app_url))
    rested(page)
    go(page, "Spectra")
    page.get_by_role("button", name="Other settings").click()
    examples = page.get_by_label("Examples", exact=True)
    examples.fill("8")
    examples.press("Tab")
    page.get_by_role("button", name="Calibrate with these settings").click()
    expect(page.get_by_role("button", name="Stop", exact=True)).to_be_visible(timeout=30_000)

    # the work goes on while another page is open
    go(page, "Geometry")
    no_message_of_failure(page)
    go(page, "Spectra")
    expect(page.get_by_text("Measured on 8 examples")).to_be_visible(timeout=LONG)

    go(page, "Surgery")
    value = page.locator(".board .numbers dd").first
    expect(value).to_contain_text("±", timeout=30_000)
    before = value.inner_text()
    slider = page.get_by_role("slider", name="eta suppress")
    slider.focus()
    for _ in range(10):
        slider.press("ArrowLeft")
    expect(value).not_to_have_text(before, timeout=20_000)
    rested(page)
    no_message_of_failure(page)

    go(page, "Evaluate")
    for label, number in (("Examples", "4"), ("Random controls", "1")):
        field = page.get_by_label(label, exact=True)
        field.fill(number)
        field.press("Tab")
    page.get_by_role("button", name="Prove it").click()
    expect(page.get_by_text("4 held-out examples")).to_be_visible(timeout=LONG)
    no_message_of_failure(page)

    go(page, "Export")
    target = tmp_path / "edited"
    page.get_by_role("textbox", name="New folder").fill(str(target))
    page.get_by_role("button", name="Write and verify").click()
    expect(page.get_by_text("Byte-equal")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="Reload with PEFT and compare").click()
    expect(page.get_by_text("Loaded by PEFT")).to_be_visible(timeout=LONG)

    repeated = repeat_by_command(target / "recipe.yaml", app_home, tmp_path)
    assert {file.name for file in repeated.iterdir()} == {file.name for file in target.iterdir()}
    for file in target.iterdir():
        assert (repeated / file.name).read_bytes() == file.read_bytes(), file.name


def repeat_by_command(recipe: Path, app_home: Path, tmp_path: Path) -> Path:
    """Run the recipe in a home that knows the converted base model but no sensitivities."""
    fresh, out = tmp_path / "fresh-home", tmp_path / "repeated"
    fresh.mkdir()
    (fresh / "bases").symlink_to(app_home / "bases")
    done = subprocess.run(
        [sys.executable, "-m", "surgery", "run", str(recipe), "--out", str(out)],
        env={**os.environ, "SURGERY_HOME": str(fresh)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return out
