"""How fast the Surgery page's board follows the hand: drag to repaint, release to confirmed numbers.

    python -m tests.benchmarks.board_latency
    python -m tests.benchmarks.board_latency --home FOLDER    # caches of an earlier run: no conversion, no measuring

It starts the app on a home of its own, drives a headless Chromium with the mouse, and reads what the
board tells in its `board` events: from a knob's input event to the end of the repaint, and from its
release to the frame after the server's answer was drawn. Two adapters: `demo:kinship` with measured
sensitivities (960 components in scope), one in the shape of an 8B model, 36 layers of o_proj and down_proj at rank 16
(1,152 components), and one of a mixture of 128 experts, 18,624 modules (49,536 components in scope), whose factors and
sensitivities are drawn at random. All under grad_direction, dragging eta_suppress.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.benchmarks.made_up import EXPERTS, RESIDUAL_8B, made_up
from tests.e2e.browser import find_chromium
from tests.e2e.driving import FLAGS, LISTEN, LONG, measured_demo, rested, serving

KNOB = "eta_suppress"
WARM = 5  # first releases, while the browser still compiles the page: not counted
PAUSE = 1000  # ms between two releases; meanwhile the page around the board is brought up to date
FRAME = "() => new Promise(requestAnimationFrame)"
TIMES = "kind => window.boardEvents.filter(event => event.kind === kind).map(event => event.ms)"


@dataclass(frozen=True)
class Latency:
    """Milliseconds of every repaint of a drag and of every confirmed release."""

    adapter: str
    components: str
    repaints: list[float]
    releases: list[float]


def started_afresh(record: dict[str, Any]) -> dict[str, Any]:
    """A measured workspace with the policy of the benchmark and nothing before it."""
    start = {"scope": "residual", "policy": "grad_direction", "knobs": {}, "energy": "l1", "sigma_min": 0.0}
    steps = [{"label": "start", "edit": {**start, "manual": {}}}]
    return {**record, "history": steps, "at": 0, "shelf": {}}


def latency(browser: Browser, url: str, home: Path, record: dict[str, Any], moves: int, releases: int) -> Latency:
    """Drag the knob `moves` times to and fro, then let it go `releases` times."""
    name = uuid4().hex[:12]
    file = home / "workspaces" / f"{name}.json"
    file.write_text(json.dumps(record), encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(LISTEN)
    page = context.new_page()
    page.goto(f"{url}/surgery?w={name}")
    numbers = page.locator(".board .numbers dd")
    expect(numbers.first).to_contain_text("±", timeout=LONG)
    rested(page)
    x0, x1, y = track(page)
    drag(page, x0, x1, y, moves)
    repaints: list[float] = page.evaluate(TIMES, "drag")
    page.mouse.up()
    wait_for(page, 1)
    page.evaluate("() => { window.boardEvents.length = 0 }")
    for number in range(WARM + releases):
        page.mouse.move(x0 + (x1 - x0) * (0.1 + 0.8 * (number % 2)), y)
        page.mouse.down()
        page.mouse.move(x0 + (x1 - x0) * (0.3 + 0.4 * number / (WARM + releases)), y, steps=3)
        page.mouse.up()
        wait_for(page, number + 1)
    confirmed: list[float] = page.evaluate(TIMES, "confirm")[WARM:]
    components = numbers.nth(1).inner_text()
    context.close()
    file.unlink(missing_ok=True)  # so that a visit to this home does not open it
    return Latency(record["adapter"]["source"].rpartition("/")[2], components, repaints, confirmed)


def track(page: Page) -> tuple[float, float, float]:
    """The ends of the knob's track, with its table loaded."""
    box = page.locator(f'.board input[name="{KNOB}"]').bounding_box()
    if box is None:
        sys.exit(f"the board shows no knob {KNOB}")
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.wait_for_timeout(1000)
    rested(page)
    return box["x"] + 8, box["x"] + box["width"] - 8, y


def drag(page: Page, x0: float, x1: float, y: float, moves: int) -> None:
    """Take the knob and move it to and fro, one move a frame; it stays held."""
    page.mouse.move(x0, y)
    page.mouse.down()
    page.evaluate(FRAME)
    for move in range(1, moves + 1):
        there = move % 80
        page.mouse.move(x0 + (x1 - x0) * (there if there <= 40 else 80 - there) / 40, y)
        page.evaluate(FRAME)


def wait_for(page: Page, confirmed: int) -> None:
    page.wait_for_function(
        "wanted => window.boardEvents.filter(event => event.kind === 'confirm').length >= wanted",
        arg=confirmed,
        timeout=LONG,
    )
    page.wait_for_timeout(PAUSE)
    rested(page)


def table(results: list[Latency]) -> str:
    head = (
        "| adapter | components | repaints | drag to repaint, ms: p50 | p95 | releases "
        "| release to confirmed, ms: median | p95 |\n|---|--:|--:|--:|--:|--:|--:|--:|"
    )
    rows = [
        f"| {each.adapter} | {each.components} | {len(each.repaints)} | {np.median(each.repaints):.1f} "
        f"| {np.percentile(each.repaints, 95):.1f} | {len(each.releases)} | {np.median(each.releases):.0f} "
        f"| {np.percentile(each.releases, 95):.0f} |"
        for each in results
    ]
    return "\n".join([head, *rows])


@contextmanager
def driven(given: Path | None) -> Iterator[tuple[Browser, str, Path, Path]]:
    """A browser, the address of a server, its home, which is `given` or a temporary one, and a folder to write to."""
    path = find_chromium()
    if path is None:
        sys.exit("no Chromium found: `make browser` installs one")
    with tempfile.TemporaryDirectory() as scratch:
        home = given.resolve() if given else Path(scratch) / "home"
        with serving(home) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            yield browser, url, home, Path(scratch)
            browser.close()


def machine(chromium: str) -> str:
    return f"Headless Chromium {chromium}, {os.cpu_count()} cores, {platform.machine()}, {platform.system()}."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, help="the app's caches; a temporary folder where none is given")
    parser.add_argument("--moves", type=int, default=160, help="moves of the drag")
    parser.add_argument("--releases", type=int, default=20, help="releases")
    options = parser.parse_args()
    with driven(options.home) as (browser, url, home, scratch):
        demo = started_afresh(measured_demo(browser, url, home))
        shapes = (RESIDUAL_8B, EXPERTS)
        records = [demo, *(made_up(demo, scratch / shape.name, home, shape) for shape in shapes)]
        results = [latency(browser, url, home, record, options.moves, options.releases) for record in records]
        version = browser.version
    print(table(results))
    print(f"\n{machine(version)}")


if __name__ == "__main__":
    main()
