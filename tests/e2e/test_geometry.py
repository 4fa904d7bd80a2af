"""The Geometry page under a person's hand: views, cells by mouse and key, downloads, links, another adapter."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from surgery import Spectrum
from surgery.spectra import module_synergy
from tests.e2e.driving import fresh, no_message_of_failure, rested

SOON = 30_000
# how figures.mjs lays out its one map, in CSS pixels
LEFT, TOP, RIGHT, BOTTOM = 62, 30, 64, 44


@pytest.fixture
def geometry(page: Page, app_url: str) -> Iterator[Page]:
    page.goto(fresh(app_url, "geometry"))
    expect(the_map(page)).to_have_attribute("aria-label", re.compile("o_proj across layers"), timeout=60_000)
    rested(page)
    yield page
    no_message_of_failure(page)


def the_map(page: Page) -> Locator:
    return page.locator('.atlas canvas[data-role="map"]')


def choose(page: Page, role: str, value: str) -> None:
    page.locator(f'.atlas select[data-role="{role}"]').select_option(value)


def titled(page: Page, title: str) -> None:
    expect(the_map(page)).to_have_attribute("aria-label", re.compile(re.escape(title)), timeout=SOON)


def click_cell(page: Page, row: int, column: int, size: int) -> None:
    box = the_map(page).bounding_box()
    assert box is not None
    cell = min(box["width"] - LEFT - RIGHT, box["height"] - TOP - BOTTOM) / size
    the_map(page).click(position={"x": LEFT + (column + 0.5) * cell, "y": TOP + (row + 0.5) * cell})


def angles_shown(page: Page) -> list[float]:
    told = page.locator('.atlas canvas[data-role="angles"]').get_attribute("aria-label") or ""
    return [float(number) for number in re.findall(r"\d+\.\d", told)]


def cosines(left: Spectrum, right: Spectrum, k: int) -> np.ndarray:
    return np.linalg.svd(left.U[:, :k].T @ right.U[:, :k], compute_uv=False)


def test_a_clicked_cell_tells_the_principal_angles_of_its_pair(
    geometry: Page, spectra: dict[str, Spectrum]
) -> None:
    o_proj = [spectrum for spectrum in spectra.values() if spectrum.family == "o_proj"]
    click_cell(geometry, 5, 7, 30)
    expect(geometry.locator('.atlas [data-role="pair"]')).to_have_text(
        "layer 5 o_proj against layer 7 o_proj", timeout=SOON
    )
    found = cosines(o_proj[5], o_proj[7], 4)
    assert angles_shown(geometry) == pytest.approx(np.degrees(np.arccos(found)), abs=0.051)
    expect(geometry.locator('.atlas [data-role="said"]')).to_contain_text(f"{(found**2).mean():.4f}")
    titled(geometry, f"layer 5 o_proj, layer 7 o_proj: {(found**2).mean():.3f}")

    the_map(geometry).focus()
    geometry.keyboard.press("ArrowDown")
    geometry.keyboard.press("ArrowRight")
    geometry.keyboard.press("ArrowRight")
    expect(geometry.locator('.atlas [data-role="pair"]')).to_have_text(
        "layer 6 o_proj against layer 9 o_proj", timeout=SOON
    )
    assert angles_shown(geometry) == pytest.approx(
        np.degrees(np.arccos(cosines(o_proj[6], o_proj[9], 4))), abs=0.051
    )
    geometry.keyboard.press("Escape")
    expect(geometry.locator('.atlas [data-role="detail"]')).to_be_hidden(timeout=SOON)


def test_every_view_measure_side_and_k_is_drawn_and_its_number_is_right(
    geometry: Page, spectra: dict[str, Spectrum]
) -> None:
    mean = geometry.locator(".atlas .numbers dd").first
    choose(geometry, "view", "synergy")
    titled(geometry, "o_proj against down_proj, output space")
    for k in (4, 1, 8):
        geometry.locator('.atlas input[data-role="k"]').fill(str(k - 1))
        expected = np.diag(module_synergy(spectra, "o_proj", "down_proj", k=k).values).mean()
        expect(mean).to_have_text(f"{expected:.3f}", timeout=SOON)
    choose(geometry, "measure", "principal")
    expected = np.diag(module_synergy(spectra, "o_proj", "down_proj", measure="principal").values).mean()
    expect(mean).to_have_text(f"{expected:.3f}", timeout=SOON)
    choose(geometry, "measure", "overlap")
    choose(geometry, "second", "gate_proj")
    trouble = geometry.locator('.atlas [data-role="trouble"]')
    expect(trouble).to_contain_text("cannot be compared", timeout=SOON)
    choose(geometry, "side", "input")  # the heads that o_proj reads have as many dimensions as the stream
    expect(trouble).to_be_hidden(timeout=SOON)
    titled(geometry, "o_proj against gate_proj, input space")
    expected = np.diag(module_synergy(spectra, "o_proj", "gate_proj", k=8, side="input").values).mean()
    expect(mean).to_have_text(f"{expected:.3f}", timeout=SOON)
    choose(geometry, "first", "up_proj")
    titled(geometry, "up_proj against gate_proj, input space")
    for view, title in (
        ("grid", "210 modules against each other"),
        ("wall", "q_proj, |cosine||down_proj, |cosine|"),
    ):
        choose(geometry, "view", view)
        expect(the_map(geometry)).to_have_attribute(
            "aria-label", re.compile("|".join(map(re.escape, title.split("||")))), timeout=SOON
        )
    choose(geometry, "view", "grid")
    choose(geometry, "group", "layer")
    geometry.get_by_label("Show × random").check()
    geometry.get_by_label("Mark what random would give").uncheck()
    rested(geometry)


def test_the_figure_and_its_numbers_are_downloaded_in_every_format(
    geometry: Page, spectra: dict[str, Spectrum], tmp_path: Path
) -> None:
    files = {}
    for kind in ("PNG", "SVG", "HTML", "CSV"):
        with geometry.expect_download(timeout=SOON) as waiting:
            geometry.get_by_role("button", name=kind, exact=True).click()
        files[kind] = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(files[kind])
        rested(geometry)
    assert {file.suffix for file in files.values()} == {".png", ".svg", ".html", ".csv"}
    assert files["PNG"].read_bytes().startswith(b"\x89PNG")
    picture = ElementTree.fromstring(files["SVG"].read_text(encoding="utf-8"))
    words = [node.text for node in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "o_proj across layers, output space" in words
    assert "layer" in words
    page = files["HTML"].read_text(encoding="utf-8")
    assert "plotly" in page.lower()
    assert "o_proj across layers" in page
    rows = list(csv.DictReader(io.StringIO(files["CSV"].read_text(encoding="utf-8"))))
    assert len(rows) == 900
    assert {row["k"] for row in rows} == {"4"}
    row = rows[5 * 30 + 7]
    expected = (cosines(spectra[row["row"]], spectra[row["column"]], 4) ** 2).mean()
    assert float(row["value"]) == pytest.approx(expected, abs=1e-6)


def test_a_file_asked_for_right_after_a_change_comes_and_is_of_what_is_shown(geometry: Page) -> None:
    for k, kind in ((6, "HTML"), (2, "CSV")):
        geometry.locator('.atlas input[data-role="k"]').fill(str(k - 1))
        with geometry.expect_download(timeout=SOON) as waiting:
            geometry.get_by_role("button", name=kind, exact=True).click()
        text = waiting.value.path().read_text(encoding="utf-8")
        if kind == "CSV":
            assert {row["k"] for row in csv.DictReader(io.StringIO(text))} == {"2"}
    expect(geometry.locator('.atlas [data-role="k-shown"]')).to_have_text("2")
    rested(geometry)
    geometry.wait_for_timeout(1200)
    assert "k=2" in geometry.url


def test_families_that_cannot_be_compared_are_told_and_the_next_choice_is_drawn(
    geometry: Page, app_url: str
) -> None:
    geometry.goto(fresh(app_url, "geometry") + "&view=synergy&first=k_proj")
    expect(geometry.get_by_text("cannot be compared")).to_be_visible(timeout=SOON)
    for kind in ("PNG", "SVG", "HTML", "CSV"):
        expect(geometry.get_by_role("button", name=kind, exact=True)).to_be_disabled()
    expect(geometry.locator('.atlas input[data-role="k"]')).to_be_disabled()
    choose(geometry, "first", "o_proj")
    titled(geometry, "o_proj against down_proj")
    expect(geometry.get_by_text("cannot be compared")).to_be_hidden()
    expect(geometry.locator('.atlas input[data-role="k"]')).to_be_enabled()
    with geometry.expect_download(timeout=SOON):
        geometry.get_by_role("button", name="CSV", exact=True).click()


def test_a_copied_address_opens_the_same_view(geometry: Page) -> None:
    choose(geometry, "view", "synergy")
    titled(geometry, "o_proj against down_proj")
    geometry.locator('.atlas input[data-role="k"]').fill("6")
    geometry.get_by_label("Show × random").check()
    click_cell(geometry, 3, 4, 30)
    expect(geometry.locator('.atlas [data-role="detail"]')).to_be_visible(timeout=SOON)
    rested(geometry)
    geometry.wait_for_timeout(800)
    address = re.sub(r"\bw=\w+&", "", geometry.url)
    assert "view=synergy" in address
    said = geometry.locator('.atlas [data-role="said"]').inner_text()
    again = geometry.context.new_page()
    again.goto(address)
    titled(again, "o_proj against down_proj")
    expect(again.locator('.atlas [data-role="said"]')).to_have_text(said, timeout=SOON)
    expect(again.locator('.atlas [data-role="k-shown"]')).to_have_text("7")
    expect(again.get_by_label("Show × random")).to_be_checked()


def test_another_adapter_is_compared_and_its_pairs_lead_to_spectra(geometry: Page) -> None:
    geometry.get_by_role("button", name="Compare with another adapter").click()
    geometry.get_by_role("button", name="demo:arithmetic").click()
    titled(geometry, "o_proj of both adapters")
    click_cell(geometry, 3, 3, 30)
    pair = geometry.locator('.atlas [data-role="pair"]')
    expect(pair).to_have_text("layer 3 o_proj against other, layer 3 o_proj", timeout=SOON)
    expect(geometry.locator('.atlas [data-role="open-right"]')).to_be_hidden()
    geometry.locator('.atlas [data-role="open-left"]').click()
    expect(geometry.get_by_role("heading", name="Spectra", exact=True)).to_be_visible(timeout=SOON)


def test_the_page_says_what_it_shows_and_how_to_read_it(geometry: Page) -> None:
    geometry.get_by_text("What this shows, how to read it, the formulas").click()
    expect(geometry.get_by_text("Two random k-dimensional subspaces")).to_be_visible()
