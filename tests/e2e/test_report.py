"""A report in a real browser with the network cut: figures answer, answers are looked through, texts stay texts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from app.report import report_html, write_report
from app.state.workspace import workspace_for
from surgery.runs import known_run, known_runs
from tests.e2e.driving import LONG, fresh, rested, until
from tests.helpers.reports import HOSTILE, hostile_run, with_a_second_edit

SOON = 60_000  # plotly.js is large, and two cores may be busy
# the width that the page takes, and how many figures lie beyond the screen
TOO_WIDE = """[document.documentElement.scrollWidth, [...document.querySelectorAll(".figure .main-svg")]
    .filter((drawing) => drawing.getBoundingClientRect().right > innerWidth).length]"""


@dataclass
class Offline:
    """A browser without network, and what its page asked for, said and threw."""

    context: BrowserContext
    requests: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def open(self, file: Path) -> Page:
        page = self.context.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.said.append(message.text))
        page.on("pageerror", lambda error: self.said.append(error.message))
        page.on("dialog", lambda dialog: self.said.append(dialog.message))
        page.goto(file.as_uri())
        return page


@pytest.fixture
def offline(browser: Browser) -> Iterator[Offline]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)
    found = Offline(context)

    def refuse(route: Route) -> None:
        if route.request.url.startswith("file://"):
            route.continue_()
        else:
            route.abort()

    context.route("**/*", refuse)
    yield found
    context.close()
    assert found.said == []
    assert [url.partition(":")[0] for url in found.requests] == ["file"] * len(found.requests)


def drawn(page: Page) -> Page:
    page.locator("html[data-drawn=true]").wait_for(state="attached", timeout=SOON)
    return page


def test_a_report_opens_without_network_and_its_figures_and_answers_react(
    offline: Offline, tmp_path: Path
) -> None:
    run = next(run for run in known_runs() if run.plan.adapter == "demo:kinship")
    write_report(run, tmp_path / "proof.html")
    page = drawn(offline.open(tmp_path / "proof.html"))
    assert offline.requests == [(tmp_path / "proof.html").as_uri()]
    expect(page.locator(".figure .main-svg").first).to_be_visible()

    # a hand on the map reads a cell, and a click opens its module below
    chosen, title = page.locator("#module"), page.locator("#figure-spectrum .gtitle")
    cells = page.locator("#figure-gains-1 .nsewdrag")
    cells.scroll_into_view_if_needed()
    cells.hover(position={"x": 12, "y": 4})
    expect(page.locator("#figure-gains-1 .hoverlayer")).to_contain_text(
        "model.layers.0.self_attn.o_proj, component 0"
    )
    cells.click(position={"x": 12, "y": 4})
    expect(title).to_have_text("model.layers.0.self_attn.o_proj")
    expect(chosen.locator("option:checked")).to_have_text("model.layers.0.self_attn.o_proj")
    bars = page.locator("#figure-spectrum .bars .point path").first
    before = bars.get_attribute("d")
    chosen.select_option(label="model.layers.29.mlp.down_proj")
    expect(title).to_have_text("model.layers.29.mlp.down_proj")
    assert bars.get_attribute("d") != before

    rows = page.locator("#answers table.texts tbody tr")
    expect(rows).to_have_count(6)
    page.locator("#answers-filter").select_option("all")
    expect(rows).to_have_count(64)
    page.locator("#answers-search").fill("phoenix MARY")
    expect(page.locator("#answers-count")).to_have_text(f"{rows.count()} of 64 examples")
    assert 0 < rows.count() < 64
    page.locator("#answers-variant").select_option(label="random 3")
    expect(page.locator("#answers table.texts thead")).to_contain_text("random 3")


def test_each_edit_of_a_run_is_chosen_and_answers(offline: Offline, tmp_path: Path) -> None:
    run = next(run for run in known_runs() if run.plan.adapter == "demo:kinship")
    write_report(with_a_second_edit(run), tmp_path / "two.html")
    page = drawn(offline.open(tmp_path / "two.html"))
    expect(page.locator("#figure-spectrum .main-svg").first).to_be_visible()
    expect(page.locator("#figure-edit1-spectrum")).to_be_hidden()
    page.locator("#which-edit").select_option(label="halved")
    expect(page.locator("#figure-edit1-spectrum .main-svg").first).to_be_visible()
    expect(page.locator("#figure-spectrum")).to_be_hidden()
    page.locator("#edit1-module").select_option(label="model.layers.29.mlp.down_proj")
    expect(page.locator("#figure-edit1-spectrum .gtitle")).to_have_text("model.layers.29.mlp.down_proj")
    cells = page.locator("#figure-edit1-gains-1 .nsewdrag")
    cells.scroll_into_view_if_needed()
    cells.click(position={"x": 12, "y": 4})
    expect(page.locator("#figure-edit1-spectrum .gtitle")).to_have_text("model.layers.0.self_attn.o_proj")
    page.locator("#which-edit").select_option(label="edit")
    expect(page.locator("#figure-spectrum .main-svg").first).to_be_visible()
    page.emulate_media(media="print")  # hidden figures are not fitted to the paper


def test_the_hostile_texts_of_a_run_are_read_and_do_nothing(offline: Offline, tmp_path: Path) -> None:
    file = tmp_path / "hostile.html"
    file.write_text(report_html(hostile_run(workspace_for("demo:kinship"))), encoding="utf-8")
    page = drawn(offline.open(file))
    page.locator("#answers-filter").select_option("all")
    expect(page.locator("#answers table.texts").get_by_text(HOSTILE[1]).first).to_be_visible()
    page.locator("#figure-change-1 .ytick").get_by_text(HOSTILE[1]).first.scroll_into_view_if_needed()
    assert page.locator("img").count() == 0
    assert page.title().startswith("Proof of")


def test_without_scripts_the_tables_are_whole_and_the_figures_say_why(browser: Browser, tmp_path: Path) -> None:
    run = next(run for run in known_runs() if run.plan.adapter == "demo:kinship")
    write_report(run, tmp_path / "proof.html")
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto((tmp_path / "proof.html").as_uri())
    expect(page.locator("noscript p")).to_be_visible()
    expect(page.locator("#effects tbody tr")).to_have_count(len(run.plan.variants) - 1)
    expect(page.locator("#answers tbody tr")).to_have_count(6)
    expect(page.locator("#answers-filter")).to_be_hidden()
    context.close()


def test_a_report_fits_any_screen_in_either_theme(browser: Browser, tmp_path: Path) -> None:
    run = next(run for run in known_runs() if run.plan.adapter == "demo:kinship")
    write_report(run, tmp_path / "proof.html")
    # the page's own policy would not let a test look into it
    context = browser.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True)
    page = context.new_page()
    page.goto((tmp_path / "proof.html").as_uri())
    drawn(page)
    ink = "getComputedStyle(document.querySelector('.gtitle')).fill"
    for width, theme, colour in ((1280, "light", "rgb(28, 35, 51)"), (360, "dark", "rgb(228, 232, 241)")):
        page.emulate_media(color_scheme=theme)
        page.set_viewport_size({"width": width, "height": 800})
        until(lambda width=width: page.evaluate(TOO_WIDE) == [width, 0])
        # what is drawn has the page's own colour of text
        assert page.evaluate(f"[{ink}, getComputedStyle(document.body).color]") == [colour, colour]
    context.close()


def test_the_evaluate_page_gives_the_same_file(
    page: Page, app_url: str, app_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURGERY_HOME", str(app_home))
    monkeypatch.setattr("surgery.files.places.RUNS", "runs")  # the server's, not those of this test
    page.goto(fresh(app_url, "evaluate"))
    rested(page)
    with page.expect_download(timeout=LONG) as waiting:
        page.get_by_role("button", name="Report").click()
    named = waiting.value.suggested_filename
    run = known_run(named.removeprefix("report-").removesuffix(".html"))
    assert run is not None
    waiting.value.save_as(tmp_path / "page.html")
    write_report(run, tmp_path / "own.html")
    assert (tmp_path / "page.html").read_bytes() == (tmp_path / "own.html").read_bytes()
