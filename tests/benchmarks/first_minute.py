"""How long a newcomer waits for the board: from the first click on Surgery to bars that are drawn and a knob that answers.

    python -m tests.benchmarks.first_minute

Each run starts the app's server afresh on an empty home and a headless Chromium with an empty cache, opens the
first page as it is, and clicks on Surgery. No base model is loaded: the demo ships its sensitivities. Times are
the page's own, from the click: to the second frame after the board has its numbers, and to the frame after the
server's answer to the first key on a knob, which is pressed at once. The first page's own time is from its
request to the second frame after its content, on the same cold server.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, Playwright, expect, sync_playwright

from tests.benchmarks.board_latency import KNOB, machine
from tests.benchmarks.look_latency import PAINTED
from tests.e2e.browser import find_chromium
from tests.e2e.driving import FLAGS, LONG, rested, serving

WATCH = """
window.answers = []
document.addEventListener("board", ({ detail }) => detail.kind === "confirm" && window.answers.push(performance.now()))
document.addEventListener("click", () => { window.clicked ??= performance.now() }, true)
"""


@dataclass(frozen=True)
class FirstMinute:
    """Milliseconds: the first page from its request, the others from the click on Surgery."""

    first_page: float
    drawn: float
    answered: float


def visit(page: Page, url: str) -> FirstMinute:
    """Open the first page, go to Surgery, touch a knob."""
    page.add_init_script(WATCH)
    began = time.perf_counter()
    page.goto(url)
    expect(page.get_by_text("Edited scalars")).to_be_visible(timeout=LONG)
    page.evaluate(PAINTED)
    first_page = (time.perf_counter() - began) * 1e3
    rested(page)
    page.get_by_role("link", name="Surgery", exact=True).first.click()
    expect(page.locator(".board .numbers dd").first).to_contain_text("±", timeout=LONG)
    page.evaluate(PAINTED)
    drawn: float = page.evaluate("() => performance.now() - window.clicked")
    page.locator(f'.board input[name="{KNOB}"]').press("ArrowRight")
    page.wait_for_function("() => window.answers.length", timeout=LONG)
    answered: float = page.evaluate("() => window.answers[0] - window.clicked")
    return FirstMinute(first_page, drawn, answered)


def cold(playwright: Playwright, path: str | None) -> tuple[FirstMinute, str]:
    """One run with nothing warm, and the browser's version."""
    with tempfile.TemporaryDirectory() as home, serving(Path(home)) as url:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        found = visit(page, url)
        version = browser.version
        browser.close()
    return found, version


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=7, help="cold starts")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        runs = [cold(playwright, find_chromium()) for _ in range(options.times)]
    print("| | median, ms | most |\n|---|--:|--:|")
    for name, words in (
        ("first_page", "request of the first page to its content"),
        ("drawn", "click on Surgery to bars drawn"),
        ("answered", "click on Surgery to a knob's answer"),
    ):
        times = [getattr(found, name) for found, _ in runs]
        print(f"| {words} | {np.median(times):.0f} | {max(times):.0f} |")
    print(f"\n{machine(runs[0][1])} {options.times} cold starts.")


if __name__ == "__main__":
    main()
