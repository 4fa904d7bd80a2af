"""Parts of `gpu.py` on random models: calibration against a plain pass, and decoding of several variants."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from surgery.data import Example
from surgery.model import LiveModel, VariantEngine, answer_losses, run_batches
from tests.benchmarks.device_limits import matrix_rate, peak_bytes, seconds
from tests.benchmarks.engine_speed import VARIANTS, eight, rows_of
from tests.benchmarks.gpu_bench import GIB, Bench, Measured

OURS, PLAIN = "calibration", "plain forward and backward"


def calibration_part(bench: Bench, which: int) -> Iterator[Measured]:
    """Sensitivities of a random model, and a plain forward and backward pass over the same batches in turn with them."""
    shape, scale = bench.scale.shapes[which], bench.scale
    rate = matrix_rate(bench.device, scale.side, 10)
    yield Measured("bfloat16 matrix product", rate / 1e12, "TFLOP/s", f"best of ten, {scale.side}² matrices")
    with bench.opened(shape) as (live, loading):
        yield Measured(f"{shape.name}: load", loading, "s", f"{len(live.spectra)} modules, made on the device")
        examples = bench.examples(shape)
        work = operations(live, examples)
        sizes: dict[str, list[int]] = {OURS: [], PLAIN: []}
        calls: dict[str, tuple[Callable[[], AbstractContextManager[Any]], Callable[[], Any]]] = {
            OURS: (nullcontext, lambda: bench.sensitivities(live, examples, scale.batch, sizes[OURS])),
            PLAIN: (live.alone, lambda: plain_pass(live, examples, bench, sizes[PLAIN])),
        }
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(scale.rounds + 1):
            for name, (around, call) in calls.items():
                with around():
                    times[name].append(seconds(call, bench.device))
        medians = {name: statistics.median(taken[1:]) for name, taken in times.items()}  # kernels start slowly
        tokens = sum(example.length for example in examples)
        for name, (around, call) in calls.items():
            with around():
                peak = peak_bytes(call, bench.device)
            took, of = medians[name], f"{shape.name}: {name}"
            rows = f"{len(examples)} × {examples[0].length} tokens in batches of {min(sizes[name])}"
            yield Measured(of, took, "s", rows)
            yield Measured(f"{of}, pace", tokens / took, "tokens/s")
            yield Measured(f"{of}, of the matrix rate", 100 * work / took / rate, "%", "the base's own products")
            yield Measured(f"{of}, peak beside the model", peak / GIB, "GiB")
        yield Measured(f"{shape.name}: calibration against the plain pass", medians[OURS] / medians[PLAIN], "×")


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
