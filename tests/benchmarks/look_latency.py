"""How fast the Geometry and Spectra pages answer: first paint, another family, k, side, a selected pair.

    python -m tests.benchmarks.look_latency
    python -m tests.benchmarks.look_latency --home FOLDER    # caches of an earlier run

It starts the app on a home of its own with a base model in memory, drives a headless Chromium with the
mouse and the keys, and reads what the figures tell in their `board` events: from the input to the frame
after the repaint. Three adapters: the demo (210 modules), and two with random factors on smaller widths: in the shape of
an 8B model, 36 layers of 7 families at rank 16 (252 modules), and of a mixture of 128 experts (18,624 modules). First paint is the time
from the request of the page to two frames after the figure, in a fresh visit to a warm server.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from playwright.sync_api import Browser, Locator, Page

from tests.benchmarks.board_latency import driven, machine, started_afresh
from tests.benchmarks.made_up import ALL_8B, EXPERTS, made_up
from tests.e2e.driving import LISTEN, LONG, measured_demo, rested

PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
LAST = "() => window.boardEvents.length ? window.boardEvents.at(-1).ms : null"


class Figures:
    """A page with its figures, and the clock of their answers."""

    def __init__(self, browser: Browser, url: str, home: Path, record: dict[str, Any], path: str) -> None:
        self._file = home / "workspaces" / f"{uuid4().hex[:12]}.json"
        self._file.write_text(json.dumps(record), encoding="utf-8")
        self._context = browser.new_context(viewport={"width": 1280, "height": 800})
        self._context.add_init_script(LISTEN)
        self.page: Page = self._context.new_page()
        self.address = f"{url}/{path}?w={self._file.stem}"

    def part(self, role: str) -> Locator:
        return self.page.locator(f'[data-role="{role}"]')

    def timed(self, act: Callable[[], object]) -> float:
        """Milliseconds of the answer to `act`, told by the figure itself."""
        self.page.evaluate("() => { window.boardEvents.length = 0 }")
        act()
        self.page.wait_for_function(LAST, timeout=LONG)
        found: float = self.page.evaluate(LAST)
        self.page.wait_for_timeout(700)
        rested(self.page)
        return found

    def close(self) -> None:
        self._context.close()
        self._file.unlink(missing_ok=True)


def first_paint(figures: Figures, drawn: str, times: int) -> list[float]:
    found = []
    for _ in range(times):
        began = time.perf_counter()
        figures.page.goto(figures.address)
        figures.page.locator(drawn).wait_for(timeout=LONG)
        figures.page.evaluate(PAINTED)
        found.append((time.perf_counter() - began) * 1e3)
        rested(figures.page)
    return found


def geometry(figures: Figures, times: int) -> dict[str, list[float]]:
    """Every kind of change on the Geometry page, `times` each."""
    found = {"geometry: first paint": first_paint(figures, '.atlas canvas[aria-label*="across layers"]', 5)}
    figures.page.wait_for_timeout(4000)  # the overlaps of all modules are made meanwhile
    families = ["q_proj", "o_proj", "down_proj", "v_proj"]
    area = figures.part("map")

    def pick(n: int) -> Callable[[], object]:
        return lambda: area.click(position={"x": 120 + 17 * (n % 20), "y": 120 + 11 * (n % 20)})

    def turn(role: str, options: list[str], n: int) -> Callable[[], object]:
        return lambda: figures.part(role).select_option(options[n % len(options)])

    def slide(n: int) -> Callable[[], object]:
        return lambda: figures.part("k").fill(str(n % 8))

    n = range(times)
    sides, measures = ["input", "output"], ["principal", "overlap"]
    found["30 × 30: family"] = [figures.timed(turn("first", families, i)) for i in n]
    found["30 × 30: side"] = [figures.timed(turn("side", sides, i)) for i in n]
    found["30 × 30: measure"] = [figures.timed(turn("measure", measures, i)) for i in n]
    figures.part("measure").select_option("overlap")
    found["30 × 30: k"] = [figures.timed(slide(i)) for i in n]
    found["pair to its detail"] = [figures.timed(pick(i)) for i in n]
    figures.timed(turn("view", ["grid"], 0))
    found["all modules: side"] = [figures.timed(turn("side", sides, i)) for i in n]
    found["all modules: measure"] = [figures.timed(turn("measure", measures, i)) for i in n]
    figures.part("measure").select_option("overlap")
    found["all modules: k"] = [figures.timed(slide(i)) for i in n]
    figures.part("ratio").check()
    found["all modules: order"] = [figures.timed(turn("group", ["layer", "family"], i)) for i in n]
    return found


def table(results: dict[str, dict[str, list[float]]]) -> str:
    names = list(results)
    head = "| | " + " | ".join(f"{name}: median, ms | p90" for name in names) + " |"
    lines = [head, "|---|" + "--:|" * (2 * len(names))]
    for row in next(iter(results.values())):
        cells = " | ".join(
            f"{np.median(results[name][row]):.0f} | {np.percentile(results[name][row], 90):.0f}" for name in names
        )
        lines.append(f"| {row} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, help="the app's caches; a temporary folder where none is given")
    parser.add_argument("--times", type=int, default=20, help="repeats of each change")
    options = parser.parse_args()
    with driven(options.home) as (browser, url, home, scratch):
        demo = started_afresh(measured_demo(browser, url, home))
        records = {"demo": demo}
        for shape in (ALL_8B, EXPERTS):
            records[shape.name] = made_up(demo, scratch / shape.name, home, shape)
        results = {}
        for name, record in records.items():
            figures = Figures(browser, url, home, record, "geometry")
            results[name] = geometry(figures, options.times)
            figures.close()
        version = browser.version
    print(table(results))
    print(f"\n{machine(version)}")


if __name__ == "__main__":
    main()
