"""What one card of 80 GB or more does in at most eight minutes, as a Markdown table and a JSON file.

    python -m tests.benchmarks.gpu
    python -m tests.benchmarks.gpu --parts decode memory
    python -m tests.benchmarks.gpu --tiny --out somewhere

(a) `calibrate-llama`, `calibrate-qwen`: random weights in the shapes of Llama-3.1-8B and Qwen3-8B in bfloat16 with
rank-16 adapters on all projections: loading, calibrating 32 × 512 tokens, and a plain forward and backward pass over the
same batches. (b) `decode`: eight variants at once against one. (c) `memory`: out of memory, provoked. (d)
`demo-calibration`, `demo-proof`: the demo end to end, its sensitivities against the CPU's.

Each part has a share of the seconds, after which it stops. Cut off or asked again, the command goes on with the parts
that are not finished. `--tiny` runs all of it on a CPU under Linux in a few seconds, on models of a few thousand weights.
"""

import argparse
import gc
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from surgery.errors import Cancelled
from surgery.files import write_whole
from surgery.progress import Control
from tests.benchmarks.device_limits import give_back_freed_blocks, tidied
from tests.benchmarks.gpu_bench import FULL, TINY, Bench, Measured
from tests.benchmarks.gpu_demo import demo_calibration_part, demo_proof_part
from tests.benchmarks.gpu_memory import memory_part
from tests.benchmarks.gpu_parts import calibration_part, decoding_part

SECONDS = 480


@dataclass(frozen=True)
class Part:
    """Seconds that a part may take, and what it measures."""

    seconds: int
    run: Callable[[Bench], Iterator[Measured]]


PARTS = {
    "calibrate-llama": Part(90, partial(calibration_part, which=0)),
    "decode": Part(70, decoding_part),
    "memory": Part(70, memory_part),
    "calibrate-qwen": Part(90, partial(calibration_part, which=1)),
    "demo-calibration": Part(60, demo_calibration_part),
    "demo-proof": Part(100, demo_proof_part),
}


class Results:
    """What the parts found so far, kept in a file that is written anew after every number."""

    def __init__(self, file: Path, machine: dict[str, str]) -> None:
        self._file = file
        self.found: dict[str, Any] = {"machine": machine, "parts": {}}
        if file.is_file():
            self.found = json.loads(file.read_text(encoding="utf-8"))
            if self.found["machine"] != machine:
                raise SystemExit(
                    f"{file} is of another machine or scale: {self.found['machine']}; name another --out"
                )

    def finished(self, name: str) -> bool:
        return self.found["parts"].get(name, {}).get("state") == "finished"

    def note(self, name: str, state: str, measured: list[Measured], took: float) -> None:
        """Replace what is known of a part and write everything."""
        self.found["parts"][name] = {
            "state": state,
            "seconds": took,
            "measured": [asdict(each) for each in measured],
        }
        write_whole(self._file, json.dumps(self.found, indent=1).encode())

    def table(self) -> Iterator[str]:
        machine = self.found["machine"]
        yield ", ".join(machine.values())
        yield ""
        yield "| part | what | value | note |"
        yield "|---|---|--:|---|"
        for name, part in self.found["parts"].items():
            for row in part["measured"]:
                yield f"| {name} | {row['what']} | {row['value']:.4g} {row['unit']} | {row['note']} |"
            yield f"| {name} | {part['state']} | {part['seconds']:.1f} s | |"


def run_part(name: str, results: Results, options: argparse.Namespace, seconds: float) -> None:
    """Run one part for at most so many seconds; whatever ends it is noted and the next part follows."""
    began = time.monotonic()
    scale, device = (TINY, "cpu") if options.tiny else (FULL, "cuda")
    control = Control(cancelled=lambda: time.monotonic() - began > seconds)
    bench = Bench(torch.device(device), scale, options.out, control)
    measured: list[Measured] = []
    state = "finished"
    try:
        for each in PARTS[name].run(bench):
            measured.append(each)
            print(f"{name}: {each.what}: {each.value:.4g} {each.unit}", file=sys.stderr, flush=True)
            results.note(name, "begun", measured, time.monotonic() - began)
            control.heed()
    except Cancelled:
        state = f"stopped after its {seconds:.0f} s; ask again to go on"
    except Exception as error:  # what a card raises says how it failed; the other parts are asked all the same
        state = f"failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    results.note(name, state, measured, time.monotonic() - began)
    tidied()


def run_parts(results: Results, options: argparse.Namespace) -> None:
    """All parts that are asked for and not finished, while there is time."""
    began = time.monotonic()
    for name in options.parts:
        if results.finished(name):
            continue
        share = PARTS[name].seconds * options.seconds / SECONDS
        left = options.seconds - (time.monotonic() - began)
        if left < share / 2:
            results.note(name, f"skipped: {max(0.0, left):.0f} s left, its share is {share:.0f} s", [], 0.0)
            continue
        run_part(name, results, options, min(share, left))


def machine_of(options: argparse.Namespace) -> dict[str, str]:
    card = platform.machine() + " CPU" if options.tiny else torch.cuda.get_device_name()
    return {
        "device": card,
        "scale": "tiny" if options.tiny else "8B",
        "torch": f"torch {torch.__version__}",
        "transformers": f"transformers {transformers.__version__}",
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all parts together")
    parser.add_argument(
        "--out", type=Path, default=Path("gpu-results"), help="folder of results.json and of the runs"
    )
    parser.add_argument("--tiny", action="store_true", help="every part on the CPU, on tiny models")
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        parser.error("torch sees no GPU here; --tiny tries every part on the CPU")
    if options.tiny:
        give_back_freed_blocks()
    options.out.mkdir(parents=True, exist_ok=True)
    results = Results(options.out / "results.json", machine_of(options))
    run_parts(results, options)
    print("\n".join(results.table()))
    states = [part["state"] for part in results.found["parts"].values()]
    return int(any(state.startswith("failed") for state in states))


if __name__ == "__main__":
    gc.freeze()  # what is imported stays, and need not be looked through again
    sys.exit(main())
