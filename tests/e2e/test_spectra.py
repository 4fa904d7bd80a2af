"""The Spectra page under a person's hand: board, keys, lists, files, links, and what it says unmeasured.

One page measures; every test then opens a copy of its workspace. Numbers are compared with the adapter's
own spectra and the stored sensitivities.
"""

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4
from xml.etree import ElementTree

import numpy as np
import pytest
import scipy.stats
from playwright.sync_api import Browser, Download, Locator, Page, expect

from surgery import Sensitivity, Spectrum
from tests.e2e.driving import LISTEN, go, no_message_of_failure, rested

SOON = 30_000
LEFT, RIGHT, TOP, BOTTOM = 16 + 9 * 6.4, 2, 24, 34  # how figures.mjs lays out the board, in CSS pixels
Open = Callable[..., Page]


@pytest.fixture
def opened(page: Page, app_url: str, app_home: Path, measured: dict[str, Any]) -> Open:
    """Opens the Spectra page on a copy of the measured workspace, with words for its address."""

    def open_(query: str = "", **changes: Any) -> Page:
        name = uuid4().hex[:12]
        file = app_home / "workspaces" / f"{name}.json"
        file.write_text(json.dumps({**measured, **changes}), encoding="utf-8")
        page.add_init_script(LISTEN)
        page.goto(f"{app_url}/spectra?w={name}{query}")
        expect(page.locator(".spectra h3")).not_to_be_empty(timeout=60_000)
        rested(page)
        return page

    return open_


def figure(page: Page) -> Locator:
    return page.locator('.spectra [data-role="figure"]')


def readout(page: Page) -> str:
    return page.locator('.spectra [data-role="readout"]').inner_text()


def facts(page: Page) -> dict[str, str]:
    """Names and values beside one module, the first of a name."""
    box = page.locator('.spectra [data-role="facts"]')
    names, values = (box.locator(kind).all_inner_texts() for kind in ("dt:not(.head)", "dd"))
    return dict(zip(reversed(names), reversed(values), strict=True))


def view(page: Page, label: str) -> None:
    page.locator(".spectra .views").get_by_role("button", name=label).click()


def number(text: str) -> float:
    return float(text.replace("−", "-").replace("+", "").split()[0])


def download(page: Page, kind: str) -> Download:
    with page.expect_download(timeout=SOON) as found:
        page.locator(f'.spectra [data-file="{kind}"]').click()
    return found.value


def content(found: Download) -> bytes:
    return Path(found.path()).read_bytes()


def cell(page: Page, spectra: dict[str, Spectrum], name: str, component: int) -> tuple[float, float]:
    """Where a component of a module stands on the board."""
    rows = list(dict.fromkeys(spectrum.family for spectrum in spectra.values()))
    layers = sorted({spectrum.layer for spectrum in spectra.values()})
    box = figure(page).bounding_box()
    assert box is not None
    wide = (box["width"] - RIGHT - LEFT) / len(layers)
    high = (box["height"] - BOTTOM - TOP) / len(rows)
    inside = 0.05 + 0.9 * (component + 0.5) / spectra[name].rank
    return LEFT + (layers.index(spectra[name].layer) + inside) * wide, TOP + (
        rows.index(spectra[name].family) + 0.5
    ) * high


def test_a_click_on_the_board_opens_a_component_with_its_numbers(
    opened: Open, spectra: dict[str, Spectrum], sensitivity: Sensitivity
) -> None:
    page, name, k = opened(), "model.layers.21.self_attn.q_proj", 3
    x, y = cell(page, spectra, name, k)
    figure(page).scroll_into_view_if_needed()
    figure(page).hover(position={"x": x, "y": y})
    tip = page.locator('.spectra [data-role="tip"]')
    expect(tip).to_contain_text(f"layer 21 · q_proj · component {k} of 16")
    figure(page).click(position={"x": x, "y": y})
    expect(page.locator(".spectra h3")).to_have_text("Spectrum of layer 21 · q_proj")
    shown, g = facts(page), sensitivity.values[name][:, k]
    assert number(shown["σ"]) == pytest.approx(spectra[name].sigma[k], rel=1e-3)
    assert number(shown["mean g"]) == pytest.approx(g.mean(), rel=1e-3)
    assert number(shown["± s.e."]) == pytest.approx(scipy.stats.sem(g), rel=1e-3)
    assert number(shown["mean |g|"]) == pytest.approx(np.abs(g).mean(), rel=1e-3)
    agreement = (np.sign(g) == np.sign(g.mean())).mean()
    assert number(shown["sign agreement"]) == pytest.approx(100 * agreement, abs=0.51)
    assert shown["standing"] == (
        "neutral" if abs(g.mean()) <= 2 * scipy.stats.sem(g) else "hurts" if g.mean() > 0 else "helps"
    )
    assert f"component {k} of 16" in (figure(page).get_attribute("aria-label") or "")
    no_message_of_failure(page)


def test_keys_alone_walk_the_board_open_a_module_and_go_back(opened: Open) -> None:
    page = opened()
    page.get_by_role("button", name="One module").focus()
    figure(page).focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowRight"):
        page.keyboard.press(key)
    expect(figure(page)).to_have_attribute("aria-label", re.compile(r"layer 2 · q_proj · component 1 of 16"))
    page.keyboard.press("Enter")
    expect(page.locator(".spectra h3")).to_have_text("Spectrum of layer 2 · q_proj")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(figure(page)).to_have_attribute("aria-label", re.compile(r"layer 3 · q_proj · component 2 of 16"))
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="All modules")).to_have_attribute("aria-pressed", "true")
    assert "layer 3 · q_proj · component 2 of 16" in readout(page)


def test_a_list_is_sorted_by_its_headers_and_opens_a_component(
    opened: Open, spectra: dict[str, Spectrum], sensitivity: Sensitivity
) -> None:
    page = opened("&view=lists")
    rows = page.locator(".spectra tbody tr")
    g = {name: values.mean(axis=0) for name, values in sensitivity.values.items()}
    sure = {name: g[name] > 2 * scipy.stats.sem(values) for name, values in sensitivity.values.items()}
    gains = sorted(
        (float(g[name][k] * spectra[name].sigma[k]) for name in g for k in np.flatnonzero(sure[name])),
        reverse=True,
    )
    zeroed = [number(text) for text in rows.locator("td:last-child").all_inner_texts()]
    np.testing.assert_allclose(zeroed, [-gain for gain in gains[:100]], rtol=1e-3)

    head = page.locator('.spectra th[data-name="sigma"]')
    for order, mark in ((True, "descending"), (False, "ascending")):
        head.get_by_role("button").click()
        expect(head).to_have_attribute("aria-sort", mark)
        sigma = [number(text) for text in rows.locator("td:nth-child(4)").all_inner_texts()]
        assert sigma == sorted(sigma, reverse=order)
    page.keyboard.press("Enter")
    expect(head).to_have_attribute("aria-sort", "descending")

    named = re.search(r"(\d+) of 3,360 components .* about (\d+) at", page.locator(".spectra .note").inner_text())
    assert named is not None
    sizes = {name: np.abs(g[name]) > 2 * scipy.stats.sem(values) for name, values in sensitivity.values.items()}
    assert int(named[1]) == sum(int(found.sum()) for found in sizes.values())
    assert int(named[2]) == round(3360 * 2 * scipy.stats.t.sf(2, sensitivity.examples - 1))

    opener = rows.nth(1).get_by_role("button")
    label = opener.get_attribute("aria-label") or ""
    opener.press("Enter")
    expect(page.locator(".spectra h3")).to_have_text(re.sub(r"Open (.*), component.*", r"Spectrum of \1", label))
    expect(page.locator(".spectra dl .head").first).to_have_text(label.rpartition(", ")[2].capitalize())


def test_every_download_holds_the_figure_or_its_numbers(
    opened: Open, spectra: dict[str, Spectrum], sensitivity: Sensitivity, tmp_path: Path
) -> None:
    page = opened()
    picture = content(download(page, "png"))
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(picture[16:20], "big") == 3600

    drawn = ElementTree.fromstring(content(download(page, "svg")))
    words = ["".join(node.itertext()) for node in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Singular values σ of every component, by family and layer", "o_proj", "29", "hurts"} <= set(words)
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}rect"))) > 3360

    found = download(page, "csv")
    assert found.suggested_filename == "spectra-all.csv"
    rows = list(csv.DictReader(io.StringIO(content(found).decode())))
    assert len(rows) == 3360
    for row in rows[::97]:
        name, k = row["module"], int(row["component"])
        assert float(row["sigma"]) == spectra[name].sigma[k]
        assert float(row["mean_g"]) == pytest.approx(sensitivity.values[name][:, k].mean(), rel=1e-12)

    view(page, "Over depth")
    file = tmp_path / "depth.html"
    file.write_bytes(content(download(page, "html")))
    expect(page.locator('.spectra [data-role="file-note"]')).to_have_text("Download")
    requests: list[str] = []
    alone = page.context.new_page()
    alone.on("request", lambda request: requests.append(request.url))
    alone.goto(file.as_uri())
    expect(alone.locator(".js-plotly-plot .barlayer").first).to_be_attached(timeout=SOON)
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


def test_the_address_reopens_the_view_in_another_visit(opened: Open, browser: Browser) -> None:
    page = opened()
    view(page, "Over depth")
    page.locator('.spectra select[data-choice="measure"]').select_option("stable")
    page.locator('.spectra select[data-choice="family"]').select_option("q_proj")
    page.wait_for_url(re.compile(r"view=depth.*measure=stable.*family=q_proj"), timeout=SOON)
    rested(page)
    label = figure(page).get_attribute("aria-label")
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    other = context.new_page()
    other.goto(page.url)
    expect(other.locator(".spectra h3")).to_have_text(
        "Stable rank over depth, and where the energy sits", timeout=60_000
    )
    expect(figure(other)).to_have_attribute("aria-label", label or "")
    expect(other.locator('.spectra select[data-choice="family"]')).to_have_value("q_proj")
    context.close()


def test_back_shows_the_view_before_and_another_page_forgets_nothing(opened: Open) -> None:
    page = opened()
    title = page.locator(".spectra h3")
    for label, word in (("Over depth", "depth"), ("Stability", "stability")):
        view(page, label)
        page.wait_for_url(re.compile(f"view={word}"), timeout=SOON)
        rested(page)
    page.go_back()
    expect(title).to_contain_text("over depth", timeout=SOON)
    rested(page)
    page.go_back()
    expect(title).to_contain_text("Singular values", timeout=SOON)
    rested(page)
    view(page, "Stability")
    page.wait_for_url(re.compile("view=stability"), timeout=SOON)
    rested(page)
    go(page, "Geometry")
    assert "view=stability" not in page.url
    go(page, "Spectra")
    expect(title).to_contain_text("How stable", timeout=SOON)
    page.wait_for_url(re.compile("view=stability"), timeout=SOON)


def test_a_hostile_address_opens_the_first_view(opened: Open) -> None:
    page = opened("&view=%3Cscript%3E&module=..%2F..&component=-9&sort=__proto__&family=%27")
    expect(page.get_by_role("button", name="All modules")).to_have_attribute("aria-pressed", "true")
    page.wait_for_url(re.compile(r"spectra\?w=[0-9a-f]{12}$"), timeout=SOON)
    no_message_of_failure(page)


def test_without_a_calibration_sigma_is_drawn_and_the_rest_says_what_it_needs(opened: Open) -> None:
    page = opened(sensitivity=None)
    need = page.locator('.spectra [data-role="need"]')
    expect(figure(page)).to_be_visible()
    expect(need).to_be_hidden()
    page.locator('.spectra select[data-choice="show"]').select_option("mean")
    expect(need).to_contain_text("needs a calibration")
    expect(figure(page)).to_be_hidden()
    for label, drawn in (("One module", True), ("Over depth", True), ("Lists", False), ("Stability", False)):
        view(page, label)
        expect(need).to_contain_text("needs a calibration")
        expect(figure(page)).to_be_visible(visible=drawn)
    no_message_of_failure(page)


def test_stability_names_a_weak_ranking_and_shows_its_table(opened: Open, sensitivity: Sensitivity) -> None:
    page = opened("&view=stability")
    half = sensitivity.examples // 2
    signed = np.mean(
        [
            scipy.stats.spearmanr(g[:half].mean(axis=0), g[half : 2 * half].mean(axis=0)).statistic
            for g in sensitivity.values.values()
        ]
    )
    said = readout(page)
    assert f"rank correlation of {signed:.2f}" in said
    word = "weak" if signed < 0.5 else "moderate" if signed < 0.8 else "strong"
    assert f"Ranking by signed mean g: {word}" in said
    cells = page.locator(".spectra tbody tr").last.locator("td").all_inner_texts()
    assert int(cells[0]) == sensitivity.examples
    assert number(cells[2]) == pytest.approx(signed, abs=0.006)


def test_every_choice_is_drawn_at_once_without_the_server(opened: Open) -> None:
    page = opened()
    page.evaluate("() => { window.boardEvents.length = 0 }")
    for name, values in {
        "show": ("energy", "mean", "magnitude", "sigma"),
        "scale": ("log", "linear"),
        "range": ("each", "same"),
    }.items():
        for value in values:
            page.locator(f'.spectra select[data-choice="{name}"]').select_option(value)
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    times = page.evaluate("() => window.boardEvents.filter(e => e.kind === 'spectra').map(e => e.ms)")
    assert len(times) == 8
    assert np.median(times) <= 150


def test_a_figure_comes_back_after_a_list_without_one(opened: Open) -> None:
    page = opened()
    for before in ("One module", "Over depth", "All modules"):
        view(page, before)
        expect(figure(page)).to_be_visible()
        view(page, "Lists")
        expect(figure(page)).to_be_hidden()
        view(page, before)
        # a page that repaints for ever answers nothing any more
        assert (
            page.evaluate("() => new Promise(done => requestAnimationFrame(() => done('painted')))") == "painted"
        )
        box = figure(page).bounding_box()
        assert box is not None
        assert box["height"] > 100
