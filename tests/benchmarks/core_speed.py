"""Speed of the numeric core and of calibration against the plain way to the same numbers, as a Markdown table.

    python tests/benchmarks/core_speed.py
    python tests/benchmarks/core_speed.py --part decompose overlap

Parts: decompose, overlap and export on a random adapter in the shape of Llama-3.1-8B (224 modules,
rank 16, float32); calibration and dense on `demo:kinship`; sigma on 72 modules of a small model;
preview on 252 made-up modules; gguf on the file of the demo's base.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from safetensors.numpy import load_file, save_file

from surgery import Adapter, Edit, decompose, export, make_edit, make_policy, open_adapter, write_back
from surgery.data import choose, encode, read_rows
from surgery.files import data_file, demo_folder
from surgery.model import (
    LiveModel,
    LoadedBase,
    answer_losses,
    attach,
    demo_gguf,
    load_base,
    padding_id,
    read_once,
    run_batches,
)
from surgery.recipes import demo_plans
from surgery.sensitivity import measure_sensitivity
from surgery.spectra import SIDES, Spectrum, overlap_table

DEMO = "demo:kinship"
LAYERS, HIDDEN, KEY_VALUE, INTERMEDIATE, RANK = 32, 4096, 1024, 14336, 16
# (out, in) of every target
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KEY_VALUE, HIDDEN),
    "self_attn.v_proj": (KEY_VALUE, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INTERMEDIATE, HIDDEN),
    "mlp.up_proj": (INTERMEDIATE, HIDDEN),
    "mlp.down_proj": (HIDDEN, INTERMEDIATE),
}
BATCH = 8


@dataclass(frozen=True)
class Result:
    """One row of the table. `ratio` is how many times the plain way costs, or where `cost`, ours over it."""

    part: str
    ours: str
    plain: str
    ratio: float
    note: str
    cost: bool = False


def seconds(call: Callable[[], object], repeats: int = 1) -> float:
    """Median wall time."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


@cache
def large_adapter() -> tuple[Adapter, dict[str, Spectrum], float, float]:
    """The 8B-shaped adapter, its spectra, and the seconds it took to open and to decompose it."""
    rng = np.random.default_rng(0)
    tensors = {}
    for layer in range(LAYERS):
        for name, (out, into) in SHAPES.items():
            key = f"base_model.model.model.layers.{layer}.{name}"
            tensors[f"{key}.lora_A.weight"] = 0.02 * rng.standard_normal((RANK, into), dtype=np.float32)
            tensors[f"{key}.lora_B.weight"] = 0.02 * rng.standard_normal((out, RANK), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        save_file(tensors, Path(folder) / "adapter_model.safetensors", metadata={"format": "pt"})
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK}
        config |= {"target_modules": sorted(name.partition(".")[2] for name in SHAPES)}
        (Path(folder) / "adapter_config.json").write_text(json.dumps(config))
        began = time.perf_counter()
        adapter = open_adapter(folder)
        opened = time.perf_counter()
        spectra = decompose(adapter)
        return adapter, spectra, opened - began, time.perf_counter() - opened


def decompose_part(options: argparse.Namespace) -> Iterator[Result]:
    adapter, spectra, opening, first = large_adapter()
    again = seconds(lambda: decompose(adapter), 3)
    shapes = [(module.B.shape[0], module.A.shape[1]) for module in adapter.modules.values()]
    dense: dict[tuple[int, ...], float] = {}
    worst = 0.0
    for name, module in adapter.modules.items():
        shape = tuple(sorted((module.B.shape[0], module.A.shape[1])))
        if shape in dense:
            continue
        update = torch.from_numpy(module.scaling * (module.B @ module.A))
        began = time.perf_counter()
        sigma = torch.linalg.svd(update, full_matrices=False).S[:RANK].numpy()
        dense[shape] = time.perf_counter() - began
        worst = max(worst, float(np.abs(sigma - spectra[name].sigma).max() / sigma[0]))
    total = sum(dense[tuple(sorted(shape))] for shape in shapes)
    measured = ", ".join(f"{'×'.join(map(str, shape))}: {time_:.1f} s" for shape, time_ in dense.items())
    yield Result(
        "decompose, 224 modules",
        f"{first:.2f} s",
        f"{total:.0f} s",
        total / first,
        f"torch.linalg.svd of the dense float32 ΔW, one of each shape ({measured}) times their number; ours again "
        f"{again:.2f} s; σ differ by {worst:.0e}·σ₁; opening the file {opening:.2f} s",
    )


def double_loop(bases: list[np.ndarray], k: int) -> np.ndarray:
    values = np.full((len(bases), len(bases)), np.nan)
    for i, left in enumerate(bases):
        for j, right in enumerate(bases):
            if len(left) == len(right):
                values[i, j] = np.linalg.norm(left[:, :k].T @ right[:, :k]) ** 2 / k
    return values


def overlap_part(options: argparse.Namespace) -> Iterator[Result]:
    _, spectra, _, _ = large_adapter()
    for side in SIDES:
        bases = [spectrum.U if side == "output" else spectrum.V for spectrum in spectra.values()]
        by_rows = [np.ascontiguousarray(basis) for basis in bases]
        modules = list(spectra.values())
        ours = seconds(lambda modules=modules, side=side: overlap_table(modules, side=side), 5)
        table = overlap_table(modules, side=side)
        for k in (4, RANK):
            plain = seconds(lambda bases=bases, k=k: double_loop(bases, k))
            plain_rows = seconds(lambda bases=by_rows, k=k: double_loop(bases, k))
            difference = np.nanmax(np.abs(table.values("overlap", k) - double_loop(bases, k)))
            yield Result(
                f"all pairs of 224 modules, {side}, k = {k}",
                f"{1e3 * ours:.0f} ms",
                f"{plain:.2f} s",
                plain / ours,
                f"numpy double loop at this k, ours at all {RANK} at once; on row-major bases {plain_rows:.2f} s "
                f"({plain_rows / ours:.0f}×); largest difference {difference:.0e}",
            )


def demo_calibration(tokenizer: Any, count: int) -> Any:
    plan = demo_plans(DEMO)[1]
    rows = choose(read_rows(data_file(plan.data)), count, seed=plan.seed, start=plan.start)
    return encode(rows, tokenizer, plan.encoding)


def resident(field: str = "VmRSS") -> float:
    """MiB of this process now, or at its peak (`VmHWM`)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition(f"{field}:")[2].split()[0]) / 1024


def one_pass(way: str, count: int) -> None:
    """Calibrate in this process and print seconds and MiB above the loaded model."""
    if way == "ours":
        adapter = open_adapter(DEMO)
        live = attach(adapter, decompose(adapter), demo_plans(DEMO)[0])
        model, tokenizer = live.model, live.base.tokenizer

        def work() -> None:
            measure_sensitivity(live, calibration, list(live.spectra), batch_size=BATCH)
    else:
        from peft import PeftModel

        base = load_base(demo_plans(DEMO)[0].location)
        wrapped = PeftModel.from_pretrained(base.model, demo_folder(DEMO), is_trainable=True).eval()
        model, tokenizer = wrapped.get_base_model(), base.tokenizer

        def step(batch: Any) -> None:
            answer_losses(model, batch).sum().backward()
            wrapped.zero_grad()

        def work() -> None:
            run_batches(calibration.examples, BATCH, padding_id(tokenizer), step)

    calibration = demo_calibration(tokenizer, count)
    with torch.no_grad():  # weights that lie in a mapped file become resident here
        model(input_ids=torch.zeros((1, 1), dtype=torch.long))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = resident()
    took = seconds(work)
    print(json.dumps([took, resident("VmHWM") - before]))


def calibration_part(options: argparse.Namespace) -> Iterator[Result]:
    found: dict[str, list[list[float]]] = {"ours": [], "peft": []}
    for turn in range(options.rounds):
        for way in sorted(found, reverse=turn % 2 == 1):
            command = [sys.executable, __file__, "--one-pass", way, "--examples", str(options.examples)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
    (ours, ours_peak), (plain, plain_peak) = (
        [statistics.median(column) for column in zip(*found[way], strict=True)] for way in ("ours", "peft")
    )
    what = f"of {options.examples} examples, 210 modules"
    note = f"forward and backward of the same batches through PEFT, median of {options.rounds} processes each"
    yield Result(f"calibration {what}: time", f"{ours:.1f} s", f"{plain:.1f} s", ours / plain, note, cost=True)
    yield Result(
        f"calibration {what}: peak above the loaded model",
        f"{ours_peak:.0f} MiB",
        f"{plain_peak:.0f} MiB",
        ours_peak / plain_peak,
        note,
        cost=True,
    )


def dense_part(options: argparse.Namespace) -> Iterator[Result]:
    adapter = open_adapter(DEMO)
    few = min(12, options.examples)
    with attach(adapter, decompose(adapter), demo_plans(DEMO)[0]) as live:
        names = list(live.spectra)
        calibration = demo_calibration(live.base.tokenizer, options.examples)
        measured: list[Any] = []
        ours = seconds(lambda: measured.append(measure_sensitivity(live, calibration, names, batch_size=BATCH)))
        weights = {name: live.model.get_submodule(name).base.weight.requires_grad_(True) for name in names}
        found = {name: np.zeros((few, live.spectra[name].rank)) for name in names}
        bases = {
            name: (torch.from_numpy(s.U).float(), torch.from_numpy(s.V).float())
            for name, s in live.spectra.items()
        }

        def step(batch: Any) -> None:
            answer_losses(live.model, batch).sum().backward()
            for name, weight in weights.items():
                U, V = bases[name]
                found[name][batch.indices[0]] = ((U.T @ weight.grad) * V.T).sum(dim=1).numpy()
                weight.grad = None

        pad = padding_id(live.base.tokenizer)
        plain = seconds(lambda: run_batches(calibration.examples[:few], 1, pad, step))
    extrapolated = plain * options.examples / few
    largest = max(
        np.abs(found[name] - measured[0].values[name][:few]).max() / np.abs(found[name]).max() for name in names
    )
    yield Result(
        f"calibration of {options.examples} examples, 210 modules",
        f"{ours:.1f} s",
        f"{extrapolated:.0f} s",
        extrapolated / ours,
        f"one example at a time with the dense G = ∂loss/∂W of every module, {few} examples in {plain:.1f} s; "
        f"gₖ differ by {largest:.0e} of the module's largest",
    )


def sigma_part(options: argparse.Namespace) -> Iterator[Result]:
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=64, num_hidden_layers=36, **shape)
    lora = LoraConfig(r=RANK, target_modules=["o_proj", "down_proj"], init_lora_weights=False)
    with tempfile.TemporaryDirectory() as folder:
        wrapped = get_peft_model(LlamaForCausalLM(config).eval(), lora)
        wrapped.save_pretrained(folder)
        adapter = open_adapter(folder)
        base = LoadedBase(LlamaForCausalLM(config).requires_grad_(False).eval(), None, "small", "small")
        with LiveModel(base, adapter, decompose(adapter)) as live:
            values = {name: 1.1 * spectrum.sigma for name, spectrum in live.spectra.items()}
            ours = seconds(lambda: live.set_sigma(values), 200)
        file = Path(folder) / "adapter_model.safetensors"

        def state() -> None:
            tensors = {key: torch.from_numpy(value) for key, value in load_file(file).items()}
            set_peft_model_state_dict(wrapped, tensors)

        def again() -> None:
            wrapped.delete_adapter("again")
            wrapped.load_adapter(folder, "again")

        wrapped.load_adapter(folder, "again")
        for name, call in (("set_peft_model_state_dict", state), ("PeftModel.load_adapter", again)):
            plain = seconds(call, 7)
            yield Result(
                f"{sum(sigma.size for sigma in values.values())} new σ in the running model",
                f"{1e3 * ours:.2f} ms",
                f"{1e3 * plain:.1f} ms",
                plain / ours,
                f"{name} with a file of the same 72 modules, hidden size 64: larger ones reload slower",
            )


def export_times(adapter: Adapter, spectra: dict[str, Spectrum], edit: Edit, folder: Path) -> list[float]:
    """Seconds of: saving the same tensors, with a flush to disk, write-back and save, the whole export."""
    plain, metadata = dict(adapter.tensors), dict(adapter.metadata)

    def flushed() -> None:
        save_file(plain, folder / "flushed", metadata=metadata)
        with (folder / "flushed").open("rb") as handle:
            os.fsync(handle.fileno())

    def edited() -> None:
        save_file({**plain, **write_back(adapter, spectra, edit)}, folder / "edited", metadata=metadata)

    return [
        seconds(lambda: save_file(plain, folder / "plain", metadata=metadata)),
        seconds(flushed),
        seconds(edited),
        seconds(lambda: export(adapter, spectra, edit, folder / "export")),
    ]


def peft_save(adapter: Adapter, folder: Path) -> float:
    """Seconds of PEFT's own save of these tensors, on a model without weights of its own."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS}
    config = LlamaConfig(num_attention_heads=32, num_key_value_heads=8, **shape)
    with torch.device("meta"):
        targets = adapter.config["target_modules"]
        model = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=RANK, target_modules=targets))
    state = {k.replace(".weight", ".default.weight"): torch.from_numpy(v) for k, v in adapter.tensors.items()}
    return seconds(lambda: model.save_pretrained(folder, state_dict=state, save_embedding_layers=False))


def export_part(options: argparse.Namespace) -> Iterator[Result]:
    adapter, spectra, _, _ = large_adapter()
    for scope in ("residual", "all"):
        edit = make_edit(spectra, make_policy("random_index", {}), scope=scope)
        times = []
        for _ in range(options.rounds):
            with tempfile.TemporaryDirectory() as folder:
                saved = peft_save(adapter, Path(folder) / "peft")
                times.append([*export_times(adapter, spectra, edit, Path(folder)), saved])
        plain, flushed, edited, whole, saved = (statistics.median(column) for column in zip(*times, strict=True))
        for what, ours, other, note in (
            ("write back and save", edited, plain, "safetensors' save_file of the same tensors"),
            ("write back and save", edited, saved, "PEFT's save_pretrained of the same tensors"),
            ("export with verification", whole, saved, "PEFT's save_pretrained of the same tensors"),
            ("export with verification", whole, flushed, "save_file and a flush to disk, which export does too"),
        ):
            times_ = f"{ours:.2f} s", f"{other:.2f} s"
            yield Result(f"{what}, {len(edit.modules)} of 224 modules", *times_, ours / other, note, cost=True)


def preview_part(options: argparse.Namespace) -> Iterator[Result]:
    if find_spec("preview_speed") is None:
        return
    from preview_speed import preview_speed

    once, timings = preview_speed()
    for timing in timings:
        yield Result(
            f"gains and preview of 252 modules, {timing.policy}",
            f"{timing.together:.1f} ms",
            f"{timing.one_by_one:.0f} ms",
            timing.one_by_one / timing.together,
            f"gains alone, one module at a time; the statistics of a fresh measurement take {once:.0f} ms, once",
        )


def gguf_part(options: argparse.Namespace) -> Iterator[Result]:
    """Model and tokenizer of one GGUF file, with transformers' loaders warm."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(demo_gguf().parent), demo_gguf().name

    def opened() -> None:
        AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
        AutoTokenizer.from_pretrained(folder, gguf_file=name)

    def opened_once() -> None:
        with read_once():
            opened()

    opened_once()
    times = [(seconds(opened_once), seconds(opened)) for _ in range(options.rounds)]
    ours, plain = (statistics.median(column) for column in zip(*times, strict=True))
    note = "the same two calls of transformers without it"
    yield Result(f"opening {name}", f"{ours:.1f} s", f"{plain:.1f} s", plain / ours, note)


PARTS = {
    "decompose": decompose_part,
    "overlap": overlap_part,
    "calibration": calibration_part,
    "dense": dense_part,
    "sigma": sigma_part,
    "export": export_part,
    "preview": preview_part,
    "gguf": gguf_part,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="repeats of calibration and export, alternating")
    parser.add_argument("--one-pass", choices=("ours", "peft"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one_pass:
        one_pass(options.one_pass, options.examples)
        return
    print(
        f"{os.cpu_count()} cores, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"numpy {np.__version__}, scipy {scipy.__version__}\n"
    )
    print("| what | ours | plain way | ratio | the plain way |")
    print("|---|---|---|---|---|")
    for part in options.part:
        for result in PARTS[part](options):
            ratio = f"{result.ratio:.2f} of it" if result.cost else f"{result.ratio:,.0f}× faster"
            print(f"| {result.part} | {result.ours} | {result.plain} | {ratio} | {result.note} |", flush=True)


if __name__ == "__main__":
    main()
