"""How much memory and how long a set of adapters of an 8B model takes to open and to compare.

`python -m tests.benchmarks.set_memory --members 50` writes as many made-up adapters of rank 16 on all projections of
a model shaped as Llama-3.1-8B, in bfloat16 (84 MB each), to a temporary folder that goes afterwards, opens them as a
set, compares every member with every other one and prints seconds and the peak of the process's memory.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from surgery.adapter_sets import MOST_BYTES, AdapterSet, cluster_members, compare_members, matrix_values, open_set
from surgery.progress import Control

RANK, WIDTH, KEYS, INNER = 16, 4096, 1024, 14336
MODULES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (KEYS, WIDTH),
    "self_attn.v_proj": (KEYS, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (INNER, WIDTH),
    "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
}


def write(folder: Path, layers: int, seed: int) -> int:
    """One made-up adapter; returns the bytes of its weights."""
    rng, tensors = np.random.default_rng(seed), {}
    for layer in range(layers):
        for path, (out, into) in MODULES.items():
            name = f"base_model.model.model.layers.{layer}.{path}"
            for side, shape in (("A", (RANK, into)), ("B", (out, RANK))):
                factor = rng.standard_normal(shape, dtype=np.float32) * 0.02
                tensors[f"{name}.lora_{side}.weight"] = factor.astype(ml_dtypes.bfloat16)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "made-up/8B-shaped",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": sorted(path.rpartition(".")[2] for path in MODULES),
    }
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors")
    return (folder / "adapter_model.safetensors").stat().st_size


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Clock:
    """Seconds since it was made, and those for which this process had a core."""

    def __init__(self) -> None:
        self.begun, self.used = time.monotonic(), time.process_time()

    def __str__(self) -> str:
        return f"{time.monotonic() - self.begun:.2f} s ({time.process_time() - self.used:.2f} s of a core)"


def told(what: str, clock: Clock, before: float) -> None:
    print(f"{what}: {clock}, peak {peak_mib():,.0f} MiB ({before:,.0f} before)", flush=True)


def every_tenth(done: int, total: int) -> None:
    if done * 10 // total != (done - 1) * 10 // total:
        print(f"  {done} of {total}", flush=True)


def measure(root: Path, most: int) -> AdapterSet:
    before, clock = peak_mib(), Clock()
    adapters = open_set(root, most_bytes=most)
    told(f"opened {len(adapters.opened)} adapters", clock, before)
    clock = Clock()
    matrix = compare_members(
        adapters, [member.name for member in adapters.opened], control=Control(progress=every_tenth)
    )
    told(f"compared in {most >> 20:,} MiB, of which {adapters.held.peak >> 20:,} held at most", clock, before)
    clock = Clock()
    view = matrix_values(matrix, "overlap", 4, "output")
    print(f"a view of the matrix: {clock}")
    clock = Clock()
    matrix_values(matrix, "overlap", 4, "output")
    cluster_members(view)
    print(f"the same once more, and its clusters: {clock}")
    off = ~np.eye(len(matrix.members), dtype=bool)
    share = np.mean(view.values[off] > view.chance[off])
    print(
        f"random adapters: mean overlap {view.values[off].mean():.6f}, expected {view.expected[off].mean():.6f}, "
    )
    print(f"{share:.1%} of pairs above the chance level that one in a hundred exceeds")
    return adapters


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--members", type=int, default=50)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--mib", type=int, default=MOST_BYTES >> 20, help="bytes that the set may hold, in MiB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = [write(Path(folder) / f"member-{at:02d}", options.layers, at) for at in range(options.members)]
        print(f"{len(sizes)} adapters of {sizes[0] / 1e6:.0f} MB", flush=True)
        measure(Path(folder), options.mib << 20)


if __name__ == "__main__":
    main()
