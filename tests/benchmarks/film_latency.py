"""How fast the film of a training follows the hand: a step, another measure, k, side and module, from input to repaint.

    python -m tests.benchmarks.film_latency
    python -m tests.benchmarks.film_latency --checkpoints 20

It starts the app on a home of its own, opens two trainings in a headless Chromium and reads what the film tells in its
`board` events, from the input to the frame after the repaint: the demo's (60 modules, five checkpoints) and random
factors on smaller widths in the shape of an 8B model, 36 layers of 7 families at rank 16 (252 modules). The film itself
is timed from the click on its tab to its first picture.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.benchmarks.board_latency import driven, machine
from tests.benchmarks.look_latency import LAST, table
from tests.benchmarks.made_up import ALL_8B
from tests.e2e.driving import LISTEN, LONG, fresh, rested
from tests.helpers.adapter_folders import factors, write_adapter_at


def film(browser: Browser, url: str, folder: str, times: int) -> dict[str, list[float]]:
    """Milliseconds of every kind of change on the film of the training in a folder."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.add_init_script(LISTEN)
    page = context.new_page()
    page.goto(fresh(url, "many"))
    page.get_by_label("Folder above the adapters").fill(folder)
    page.get_by_role("button", name="Open", exact=True).click()
    tab = page.get_by_role("tab", name="Training film")
    tab.wait_for(timeout=LONG)
    began = time.perf_counter()
    tab.click()
    page.wait_for_function(LAST, timeout=LONG)
    found = {"the film, once": [(time.perf_counter() - began) * 1e3]}
    rested(page)
    cells, n = page.locator('[data-role="cells"]'), range(times)
    part = {role: page.locator(f'[data-role="{role}"]') for role in ("measure", "side", "k")}
    measures, sides = ("before", "angle", "norm", "last"), ("input", "output")
    found["a step by key"] = [_timed(page, cells.press, ("Home", "End")[i % 2]) for i in n]
    found["another module by key"] = [_timed(page, cells.press, "ArrowDown") for _ in n]
    found["measure"] = [_timed(page, part["measure"].select_option, measures[i % 4]) for i in n]
    found["side"] = [_timed(page, part["side"].select_option, sides[i % 2]) for i in n]
    found["k"] = [_timed(page, part["k"].fill, str(i % 4)) for i in n]
    context.close()
    return found


def _timed(page: Page, act: Callable[[str], object], value: str) -> float:
    page.evaluate("() => { window.boardEvents.length = 0 }")
    act(value)
    page.wait_for_function(LAST, timeout=LONG)
    found: float = page.evaluate(LAST)
    return found


def made_up_training(folder: Path, checkpoints: int) -> str:
    for step in range(1, checkpoints + 1):
        tensors = factors(ALL_8B.rank, seed=step, layers=ALL_8B.layers, shapes=ALL_8B.modules)
        write_adapter_at(folder / f"checkpoint-{100 * step}", tensors)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--home", type=Path, help="the app's caches; a temporary folder where none is given")
    parser.add_argument("--times", type=int, default=20, help="repeats of each change")
    parser.add_argument("--checkpoints", type=int, default=8, help="of the training in the shape of an 8B model")
    options = parser.parse_args()
    with driven(options.home) as (browser, url, _, scratch):
        trainings = {
            "demo": "demo:kinship-training",
            f"8B-shaped, {options.checkpoints} checkpoints": made_up_training(
                scratch / "run", options.checkpoints
            ),
        }
        results = {name: film(browser, url, folder, options.times) for name, folder in trainings.items()}
        version = browser.version
    print(table(results))
    print(f"\n{machine(version)}")


if __name__ == "__main__":
    main()
