"""The part of `gpu.py` that runs out of memory: the batch is halved, the work ends, the model stays as it was."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from surgery.data import Example
from surgery.errors import DataError
from surgery.model import LiveModel, VariantEngine
from tests.benchmarks.device_limits import at_most, peak_bytes
from tests.benchmarks.engine_speed import eight
from tests.benchmarks.gpu_bench import GIB, Bench, Measured, apart

# of what a pass takes: too little for its batch, and of what a row takes: too little for any
_LESS, _TOO_LITTLE = 0.6, 0.1
_OF_G = "‖difference‖ / ‖g‖, the module where it is largest"


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
        yield Measured("calibration, against such batches with all memory", apart(expected[left], less), "", _OF_G)
        yield from _decoding_in_less(bench, live, examples[: scale.requests])
        with at_most(int(_TOO_LITTLE * whole / scale.batch), bench.device):
            refused = _refusal(lambda: bench.sensitivities(live, examples, scale.batch))
        yield Measured("calibration, refused where no row fits", float(bool(refused)), "times", refused)
        after = bench.sensitivities(live, examples, scale.batch)
        yield Measured("calibration afterwards, against before", apart(expected[scale.batch], after), "", _OF_G)


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
            off = max(abs(one.loss - other.loss) / abs(one.loss) for one, other in pairs)
            yield Measured(f"answers {when}, losses against before", off, "", "largest relative difference")
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
