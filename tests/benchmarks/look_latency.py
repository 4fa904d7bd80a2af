"""How fast the Geometry and Spectra pages answer: first paint, another family, k, side, a selected pair.

    python -m tests.benchmarks.look_latency
    python -m tests.benchmarks.look_latency --home FOLDER    # caches of an earlier run

It starts the app on a home of its own with a base model in memory, drives a headless Chromium with the
mouse and the keys, and reads what the figures tell in their `board` events: from the input to the frame
after the repaint. Two adapters: the demo (210 modules), and one in the shape of an 8B model, 36 layers
of 7 families at rank 16 (252 modules), with random factors on a smaller width. First paint is the time
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
from safetensors.numpy import save_file

from surgery import decompose, open_adapter
from surgery.data import Encoding
from surgery.sensitivity import Provenance, Sensitivity, save_sensitivity
from tests.benchmarks.board_latency import driven, machine, started_afresh
from tests.e2e.driving import LISTEN, LONG, measured_demo, rested

LAYERS, RANK, WIDTH, INNER, EXAMPLES = 36, 16, 512, 896, 64
SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (WIDTH // 4, WIDTH),
    "self_attn.v_proj": (WIDTH // 4, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (INNER, WIDTH),
    "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
}
PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
LAST = "() => window.boardEvents.length ? window.boardEvents.at(-1).ms : null"


def made_up(record: dict[str, Any], folder: Path, home: Path) -> dict[str, Any]:
    """`record` on a random adapter with the modules of an 8B model, with random sensitivities in the store."""
    rng = np.random.default_rng(0)
    tensors = {}
    for layer in range(LAYERS):
        for path, (out, inner) in SHAPES.items():
            module = f"base_model.model.model.layers.{layer}.{path}"
            tensors[f"{module}.lora_A.weight"] = rng.normal(size=(RANK, inner)).astype(np.float32)
            tensors[f"{module}.lora_B.weight"] = rng.normal(size=(out, RANK)).astype(np.float32)
    targets = [path.rpartition(".")[2] for path in SHAPES]
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": targets}
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({**config, "base_model_name_or_path": "made-up/8b", "task_type": "CAUSAL_LM"}), encoding="utf-8"
    )
    save_file(tensors, folder / "adapter_model.safetensors")
    adapter = open_adapter(folder)
    values = {
        name: rng.normal(rng.normal(size=spectrum.rank) / 8, 1, (EXAMPLES, spectrum.rank)) / 10
        for name, spectrum in decompose(adapter).items()
    }
    provenance = Provenance(adapter.digest, "made up", "made up", Encoding(), tuple(values), "float32")
    file = home / "sensitivities" / f"{provenance.key}-{record['calibration']['batch_size']}.safetensors"
    save_sensitivity(Sensitivity(values, rng.normal(1, 0.1, EXAMPLES), provenance), file)
    of = {"source": str(folder), "digest": adapter.digest}
    return {**record, "adapter": of, "base": None, "evaluation": None, "sensitivity": provenance.key}


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
        records = {"demo": demo, "8B-shaped": made_up(demo, scratch / "8B-shaped", home)}
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
