"""What eight variants cost in one engine: against one variant, and against eight runs of one, as a Markdown table.

    python -m tests.benchmarks.engine_speed
    python -m tests.benchmarks.engine_speed --models demo --examples 16
    python -m tests.benchmarks.engine_speed --device cuda --models 1b 8b

Models: `tiny` and, with random weights in bfloat16, `1b` and `8b` in the shapes of Llama 3.2 and 3.1; `demo` is
`demo:kinship` on its own base and its held-out rows. Times are the medians of rounds that take turns: seconds of
the clock on a GPU, of the processor on a CPU.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from surgery import decompose, make_edit, open_adapter
from surgery.data import Example, choose, encode, read_rows
from surgery.files import data_file, demo_folder
from surgery.model import BaseChoice, LiveModel, Variant, VariantEngine, load_base
from surgery.policies import RandomIndex
from surgery.recipes import demo_plans
from tests.benchmarks.random_models import LLAMA_1B, LLAMA_8B, SMALL, ModelShape, random_examples, random_live

DEMO = "demo:kinship"
VARIANTS = 8
NEW_TOKENS = 32
PROMPT = 96
MODELS = {"tiny": SMALL, "1b": LLAMA_1B, "8b": LLAMA_8B}


@contextmanager
def demo_live(device: str) -> Iterator[LiveModel]:
    adapter = open_adapter(demo_folder(DEMO))
    dtype = "float32" if device == "cpu" else "bfloat16"
    base = load_base(BaseChoice(demo_plans(DEMO)[0].location, device=device, dtype=dtype))
    with LiveModel(base, adapter, decompose(adapter)) as live:
        yield live


def demo_examples(live: LiveModel, count: int) -> list[Example]:
    plan = demo_plans(DEMO)[1]
    rows = choose(read_rows(data_file(f"{DEMO}/test")), count)
    return list(encode(rows, live.base.tokenizer, plan.encoding).examples)


def rows_of(shape: ModelShape, count: int) -> list[Example]:
    """Prompts of about 96 tokens and answers of 4."""
    return random_examples(count, shape.vocab_size, prompt=PROMPT, spread=PROMPT // 4, answer=4)


def eight(live: LiveModel) -> dict[str, Variant | None]:
    controls = range(VARIANTS - 1)
    return {"unedited": None} | {
        f"random {seed}": make_edit(live.spectra, RandomIndex(seed=seed), scope="all").sigma_after
        for seed in controls
    }


def timed(call: Callable[[], Any]) -> float:
    """Wall time on a GPU; on a CPU that others use too, the processor time of all threads."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    began = clock()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - began


def decoding(live: LiveModel, examples: list[Example], variants: Mapping[str, Variant | None]) -> float:
    """Seconds of a decoding step: what 32 tokens cost beyond the first, by their number."""
    engine = VariantEngine(live, variants)
    prompts = [example.prompt_ids for example in examples]
    first = timed(lambda: engine.generate(prompts, max_new_tokens=1))
    return (timed(lambda: engine.generate(prompts, max_new_tokens=NEW_TOKENS)) - first) / (NEW_TOKENS - 1)


def measures(
    live: LiveModel, examples: list[Example]
) -> dict[str, Callable[[Mapping[str, Variant | None]], float]]:
    prompts = [example.prompt_ids for example in examples]
    pairs = [(example.prompt_ids, example.answer_ids) for example in examples]

    def all_of(what: Callable[[VariantEngine], Any]) -> Callable[[Mapping[str, Variant | None]], float]:
        return lambda variants: timed(lambda: what(VariantEngine(live, variants)))

    return {
        "log likelihoods": all_of(lambda engine: engine.log_likelihoods(pairs)),
        "losses and answers": all_of(lambda engine: engine.answer(examples, max_new_tokens=NEW_TOKENS)),
        "generate": all_of(lambda engine: engine.generate(prompts, max_new_tokens=NEW_TOKENS)),
        "one decoding step": lambda variants: decoding(live, examples, variants),
    }


def rows(name: str, live: LiveModel, examples: list[Example], rounds: int) -> Iterator[str]:
    variants = eight(live)
    singles: list[Mapping[str, Variant | None]] = [{key: sigma} for key, sigma in variants.items()]
    for what, measure in measures(live, examples).items():
        measure(variants)  # the first call of each kernel is slow
        found: list[tuple[float, float, float]] = []
        for _ in range(rounds):
            apart = [measure(single) for single in singles]
            found.append((statistics.median(apart), sum(apart), measure(variants)))
        one, total, together = (statistics.median(times) for times in zip(*found, strict=True))
        if live.device.type == "cpu":
            agree(live, examples, variants)
        yield (
            f"| {name}, {len(examples)} requests, {what} | {one:.3f} s | {total:.3f} s | {together:.3f} s "
            f"| {together / total:.2f} | {together / one:.2f} |"
        )


def agree(live: LiveModel, examples: list[Example], variants: Mapping[str, Variant | None]) -> None:
    """Speed without the same tokens would be worth nothing."""
    prompts = [example.prompt_ids for example in examples[:4]]
    together = VariantEngine(live, variants).generate(prompts, max_new_tokens=4)
    for name, sigma in variants.items():
        assert VariantEngine(live, {name: sigma}).generate(prompts, max_new_tokens=4)[name] == together[name], name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tiny", "demo"], choices=[*MODELS, "demo"])
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {torch.get_num_threads()} threads, processor time"
    if options.device != "cpu":
        machine = torch.cuda.get_device_name()
    print(f"{machine}, torch {torch.__version__}; {VARIANTS} variants, {NEW_TOKENS} new tokens\n")
    print("| what | one variant | sum of eight | eight together | together / sum | together / one |")
    print("|---|---|---|---|---|---|")
    for name in options.models:
        count = options.examples
        with demo_live(options.device) if name == "demo" else random_live(MODELS[name], options.device) as live:
            examples = demo_examples(live, count) if name == "demo" else rows_of(MODELS[name], count)
            for row in rows(name, live, examples, options.rounds):
                print(row, flush=True)


if __name__ == "__main__":
    main()
