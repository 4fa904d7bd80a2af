"""The parts of `gpu.py`: what each runs on the device, and the numbers that it yields as it goes."""

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from surgery import decompose, open_adapter
from surgery.adapter import Adapter
from surgery.data import Calibration, CalibrationPlan, Encoding, EvaluationPlan, Example
from surgery.edits import EditPlan
from surgery.errors import DataError
from surgery.experiments import EDIT, Proof, prove, random_controls
from surgery.model import BaseChoice, LiveModel, VariantEngine, answer_losses, attach, run_batches
from surgery.progress import Control
from surgery.recipes import demo_plans
from surgery.sensitivity import (
    Sensitivity,
    calibrate,
    calibration_slice,
    load_sensitivity,
    measure_sensitivity,
    shipped_measurements,
)
from tests.benchmarks.device_limits import at_most, matrix_rate, peak_bytes, seconds, tidied
from tests.benchmarks.engine_speed import VARIANTS, eight, rows_of
from tests.benchmarks.random_models import (
    LLAMA_8B,
    QWEN_8B,
    TINY_LLAMA,
    TINY_QWEN,
    ModelShape,
    random_examples,
    random_live,
)
from tests.helpers.rounding import sensitivities_apart
from tests.helpers.workplace import workplace, write_workplace

GIB = 1 << 30
DEMO = "demo:kinship"
# of what a pass takes: too little for its batch, and of what a row takes: too little for any
_LESS, _TOO_LITTLE = 0.6, 0.1
_OF_G = "‖difference‖ / ‖g‖, the module where it is largest"


@dataclass(frozen=True)
class Measured:
    """One line of the table: what was measured, its value in a unit, and what has to be known of it."""

    what: str
    value: float
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Scale:
    """How large the work is: rows of the random models and their tokens, requests to decode, rows of the demo."""

    shapes: tuple[ModelShape, ModelShape]
    rows: int
    prompt: int
    answer: int
    batch: int
    requests: int
    new_tokens: int
    side: int
    rounds: int
    held_out: int
    controls: int


FULL = Scale((LLAMA_8B, QWEN_8B), 32, 384, 128, 8, 16, 32, 8192, 3, 512, 4)
TINY = Scale((TINY_LLAMA, TINY_QWEN), 4, 96, 24, 4, 2, 3, 128, 1, 4, 1)


@dataclass(frozen=True)
class Bench:
    """Where a part runs, how large it is, what it keeps between calls of the command, and what stops it in time."""

    device: torch.device
    scale: Scale
    folder: Path
    control: Control

    @contextmanager
    def opened(self, shape: ModelShape) -> Iterator[tuple[LiveModel, float]]:
        """A random model with its adapter, ready to read rows, and the seconds that this took."""
        tidied()
        began = perf_counter()
        with random_live(shape, str(self.device)) as live:
            _ = live.layout
            yield live, perf_counter() - began

    def examples(self, shape: ModelShape) -> list[Example]:
        """Rows of one length."""
        scale = self.scale
        return random_examples(scale.rows, shape.vocab_size, prompt=scale.prompt, spread=0, answer=scale.answer)

    def sensitivities(
        self, live: LiveModel, examples: Sequence[Example], batch: int, sizes: list[int] | None = None
    ) -> Sensitivity:
        """Of all modules; `sizes` takes the size that each batch had to have."""
        rows = Calibration(tuple(examples), Encoding(), {})
        noted = [] if sizes is None else sizes
        return measure_sensitivity(
            live,
            rows,
            list(live.spectra),
            batch_size=batch,
            control=self.control,
            keep=lambda partial: noted.append(partial.batch_size),
        )


def calibration_part(bench: Bench, which: int) -> Iterator[Measured]:
    """Sensitivities of a random model, and a plain forward and backward pass over the same batches in turn with them."""
    shape, scale = bench.scale.shapes[which], bench.scale
    rate = matrix_rate(bench.device, scale.side, 10)
    yield Measured("bfloat16 matrix product", rate / 1e12, "TFLOP/s", f"best of ten, {scale.side}² matrices")
    with bench.opened(shape) as (live, loading):
        yield Measured(f"{shape.name}: load", loading, "s", f"{len(live.spectra)} modules, made on the device")
        examples = bench.examples(shape)
        work = operations(live, examples)
        sizes: dict[str, list[int]] = {"calibration": [], "plain forward and backward": []}
        calls: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Callable[[], Any]]] = {
            "calibration": (
                nullcontext,
                lambda: bench.sensitivities(live, examples, scale.batch, sizes["calibration"]),
            ),
            "plain forward and backward": (
                live.alone,
                lambda: plain_pass(live, examples, bench, sizes["plain forward and backward"]),
            ),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(scale.rounds + 1):
            for name, (around, call) in calls.items():
                with around():
                    times[name].append(seconds(call, bench.device))
        tokens = sum(example.length for example in examples)
        medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}  # kernels start slowly
        for name, (around, call) in calls.items():
            with around():
                peak = peak_bytes(call, bench.device)
            took, of = medians[name], f"{shape.name}: {name}"
            rows = f"{len(examples)} × {examples[0].length} tokens in batches of {min(sizes[name])}"
            yield Measured(of, took, "s", rows)
            yield Measured(f"{of}, pace", tokens / took, "tokens/s")
            yield Measured(f"{of}, of the matrix rate", 100 * work / took / rate, "%", "the base's own products")
            yield Measured(f"{of}, peak beside the model", peak / GIB, "GiB")
        first, second = medians.values()
        yield Measured(f"{shape.name}: calibration against the plain pass", first / second, "×")


def operations(live: LiveModel, examples: Sequence[Example]) -> float:
    """Operations of the weights' products in a forward and a backward pass: four a weight and token, for no weight has
    a gradient of its own.

    The head reads the positions before and at the answers alone. The products of tokens with tokens are left out.
    """
    with live.alone():
        head = live.model.get_output_embeddings()
        layers = [
            layer for layer in live.model.modules() if isinstance(layer, torch.nn.Linear) and layer is not head
        ]
        inside = sum(layer.weight.numel() for layer in layers)
    tokens = sum(example.length for example in examples)
    scored = sum(len(example.answer_ids) + 1 for example in examples)
    return 4.0 * (inside * tokens + head.weight.numel() * scored)


def plain_pass(live: LiveModel, examples: Sequence[Example], bench: Bench, sizes: list[int]) -> None:
    """Losses of the base model alone with their gradients down to the embeddings; `sizes` takes those of the batches."""

    def step(batch: Any) -> None:
        bench.control.heed()
        answer_losses(live.model, batch).sum().backward()
        sizes.append(len(batch.indices))

    table = live.model.get_input_embeddings()
    hook = table.register_forward_hook(lambda _module, _given, found: found.requires_grad_())
    try:
        run_batches(examples, bench.scale.batch, live.base.padding, step, layout=live.layout)
    finally:
        hook.remove()


def decoding_part(bench: Bench) -> Iterator[Measured]:
    """Greedy answers of eight variants in one pass against those of one."""
    shape, scale = bench.scale.shapes[0], bench.scale
    with bench.opened(shape) as (live, loading):
        yield Measured(f"{shape.name}: load", loading, "s")
        prompts = [example.prompt_ids for example in rows_of(shape, scale.requests)]
        variants = eight(live)
        alone = dict(list(variants.items())[:1])
        answers: dict[int, Any] = {}

        def decode(chosen: dict[str, Any]) -> float:
            def run() -> None:
                engine = VariantEngine(live, chosen)
                answers[len(chosen)] = engine.generate(
                    prompts, max_new_tokens=scale.new_tokens, control=bench.control
                )

            return seconds(run, bench.device)

        rounds = [(decode(alone), decode(variants)) for _ in range(scale.rounds + 1)][1:]
        one, together = (statistics.median(times) for times in zip(*rounds, strict=True))
        of = f"{len(prompts)} prompts of about 96 tokens, {scale.new_tokens} new ones each"
        yield Measured("decode one variant", one, "s", of)
        yield Measured("decode eight variants at once", together, "s", of)
        new = len(prompts) * scale.new_tokens
        yield Measured("one variant, pace", new / one, "tokens/s")
        yield Measured("eight variants, pace", VARIANTS * new / together, "tokens/s")
        yield Measured("eight at once against one", together / one, "×", f"{VARIANTS} if nothing were shared")
        ((name, told),) = answers[1].items()
        same = sum(map(np.array_equal, told, answers[VARIANTS][name]))
        yield Measured("answers alone that are the same among eight", same, f"of {len(prompts)}", "in bfloat16")


def memory_part(bench: Bench) -> Iterator[Measured]:
    """Less memory than a batch takes: it is halved, the work ends, and the model computes what it did before."""
    shape, scale = bench.scale.shapes[0], bench.scale
    with bench.opened(shape) as (live, _):
        examples = bench.examples(shape)
        sizes = [scale.batch >> halved for halved in range(scale.batch.bit_length())]
        expected = {size: bench.sensitivities(live, examples, size) for size in sizes}
        whole = peak_bytes(lambda: bench.sensitivities(live, examples, scale.batch), bench.device)
        yield Measured("calibration, peak beside the model", whole / GIB, "GiB", f"batches of {scale.batch}")
        with at_most(int(_LESS * whole), bench.device):
            tried: list[int] = []
            less = bench.sensitivities(live, examples, scale.batch, tried)
        left = min(tried)
        yield Measured("calibration, allowed", _LESS * whole / GIB, "GiB")
        yield Measured("calibration, batch that was left", left, "rows")
        yield Measured(
            "calibration, against such batches with all memory", _apart(expected[left], less), "", _OF_G
        )
        yield from _decoding_in_less(bench, live, examples[: scale.requests])
        with at_most(int(_TOO_LITTLE * whole / scale.batch), bench.device):
            refused = _refusal(lambda: bench.sensitivities(live, examples, scale.batch))
        yield Measured("calibration, refused where no row fits", float(bool(refused)), "times", refused)
        after = bench.sensitivities(live, examples, scale.batch)
        yield Measured("calibration afterwards, against before", _apart(expected[scale.batch], after), "", _OF_G)


def _decoding_in_less(bench: Bench, live: LiveModel, examples: Sequence[Example]) -> Iterator[Measured]:
    """Losses and answers of four variants in less memory than they take at once."""
    rows: list[int] = []
    variants = dict(list(eight(live).items())[:4])
    live_rows = live.model.register_forward_pre_hook(
        lambda _module, _given, named: rows.append(len(named["input_ids"])), with_kwargs=True
    )

    def answered(at_once: int | None = None) -> Any:
        rows.clear()
        engine = VariantEngine(live, variants, rows=at_once)
        return engine.answer(examples, max_new_tokens=bench.scale.new_tokens, control=bench.control)

    try:
        found = [answered()]
        most = max(rows)
        if (
            bench.device.type == "cpu"
        ):  # its kernels are made for every size of a batch, and take room of their own
            for halved in (2, 4, 8):
                answered(max(1, most // halved))
        whole = peak_bytes(lambda: found.append(answered()), bench.device)
        yield Measured("answers, peak beside the model", whole / GIB, "GiB", f"up to {most} rows at once")
        with at_most(int(_LESS * whole), bench.device):
            less = answered()
        yield Measured("answers, allowed", _LESS * whole / GIB, "GiB")
        yield Measured("answers, rows at once that were left", max(size for size in rows if size < most), "rows")
        for when, told in (("in less", less), ("afterwards", answered())):
            pairs = [pair for name, each in found[0].items() for pair in zip(each, told[name], strict=True)]
            apart = max(abs(one.loss - other.loss) / abs(one.loss) for one, other in pairs)
            yield Measured(f"answers {when}, losses against before", apart, "", "largest relative difference")
            same = sum(np.array_equal(one.tokens, other.tokens) for one, other in pairs)
            yield Measured(f"answers {when}, the same tokens", same, f"of {len(pairs)}")
    finally:
        live_rows.remove()


def _refusal(call: Callable[[], Any]) -> str:
    try:
        call()
    except DataError as error:
        return error.problem
    return ""


def _apart(one: Sensitivity, other: Sensitivity) -> float:
    """‖difference‖ / ‖g‖ of the module where it is largest."""
    return max(float(np.linalg.norm(g - other.values[name]) / np.linalg.norm(g)) for name, g in one.values.items())


@dataclass(frozen=True)
class Case:
    """What is measured end to end: an adapter on its base, rows to measure and rows to prove on.

    reference: what a CPU measured of the same rows; measured there in batches of one where nothing ships.
    """

    adapter: Adapter
    base: BaseChoice
    calibration: CalibrationPlan
    held_out: EvaluationPlan
    reference: Sensitivity | None


def case(bench: Bench) -> Case:
    """The demo with what ships of it, in float32 on the device; a made-up workplace where the work is to be tiny."""
    os.environ["SURGERY_HOME"] = str(bench.folder / "home")
    if bench.scale is TINY:
        files = bench.folder / "files"
        if not files.exists():
            write_workplace(files)
        place = workplace(files, bench.folder / "home")
        limited = replace(place.evaluation, limit=bench.scale.held_out)
        return Case(open_adapter(place.adapter), place.base, place.calibration, limited, None)
    adapter, (base, calibration, rows) = open_adapter(DEMO), demo_plans(DEMO)
    (shipped,) = shipped_measurements(adapter.digest)
    return Case(
        adapter,
        replace(base, device=str(bench.device)),
        calibration,
        replace(rows, limit=bench.scale.held_out),
        load_sensitivity(shipped.file),
    )


def demo_calibration_part(bench: Bench) -> Iterator[Measured]:
    """Sensitivities of the demo on the device against the CPU's."""
    chosen = case(bench)
    spectra = decompose(chosen.adapter)
    began = perf_counter()
    with attach(chosen.adapter, spectra, chosen.base) as live:
        yield Measured("demo: load the base and attach", perf_counter() - began, "s")
        resumed: list[int] = []
        control = replace(bench.control, resumed=lambda done, _: resumed.append(done))
        found: list[Sensitivity] = []
        took = seconds(
            lambda: found.append(calibrate(live, chosen.calibration, base=chosen.base, control=control)),
            bench.device,
        )
        (measured,) = found
        before = f", {resumed[0]} of them before a break" if resumed else ""
        yield Measured("demo: calibration", took, "s", f"{measured.examples} rows, float32{before}")
        reference = chosen.reference or measure_sensitivity(
            live, calibration_slice(live, chosen.calibration), list(live.spectra), batch_size=1
        )
        apart, allowed = _apart(reference, measured), sensitivities_apart(live.model)
        yield Measured(
            "demo: sensitivities against the CPU's", apart, "", f"‖Δg‖ / ‖g‖; rounding allows {allowed:.1e}"
        )
        nats = float(np.abs(measured.losses - reference.losses).max())
        yield Measured("demo: losses against the CPU's", nats, "nats", "largest difference of a row")


def demo_proof_part(bench: Bench) -> Iterator[Measured]:
    """The default edit of the demo and its controls on held-out rows; what was answered before a break is kept."""
    chosen = case(bench)
    spectra = decompose(chosen.adapter)
    with attach(chosen.adapter, spectra, chosen.base) as live:
        measured = calibrate(live, chosen.calibration, base=chosen.base, control=bench.control)
        edits = {EDIT: EditPlan().apply(spectra, measured)} | random_controls(spectra, bench.scale.controls)
        proof = Proof(chosen.held_out, edits, [chosen.calibration], base=chosen.base)
        resumed: list[int] = []
        control = replace(bench.control, resumed=lambda done, _: resumed.append(done))
        found: list[Any] = []
        took = seconds(lambda: found.append(prove(live, proof, control=control)), bench.device)
        evaluation = found[0].evaluation
        of = f"{len(evaluation.samples)} rows × {len(evaluation.variants)} variants"
        yield Measured("demo: proof", took, "s", of + (f", {resumed[0]} before a break" if resumed else ""))
        for measure, unit, factor in (("loss", "nats", 1), ("exact", "points", 100)):
            effect = evaluation.effect(EDIT, measure)
            yield Measured(
                f"demo: Δ {measure} of the edit",
                factor * effect.mean,
                unit,
                f"± {factor * effect.standard_error:.2g}",
            )
