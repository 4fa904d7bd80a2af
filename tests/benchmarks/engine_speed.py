"""What eight variants cost in one engine: against one variant, and against eight runs of one, as a Markdown table.

    python tests/benchmarks/engine_speed.py
    python tests/benchmarks/engine_speed.py --models demo --examples 16
    python tests/benchmarks/engine_speed.py --device cuda --models 1b 8b

Models: `tiny` and, with random weights in bfloat16, `1b` and `8b` in the shapes of Llama 3.2 and 3.1; `demo` is
`demo:kinship` on its own base and its held-out rows. Times are the medians of rounds that take turns: seconds of
the clock on a GPU, of the processor on a CPU.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from surgery import decompose, make_edit, open_adapter
from surgery.data import Example, choose, encode, read_rows
from surgery.files import data_file, demo_folder
from surgery.model import BaseChoice, LiveModel, LoadedBase, Variant, VariantEngine, load_base
from surgery.policies import RandomIndex
from surgery.recipes import demo_plans

DEMO = "demo:kinship"
VARIANTS, RANK = 8, 16
NEW_TOKENS = 32
PROMPT = 96
# (layers, hidden, intermediate, heads, key-value heads, vocabulary, dtype) of the random models
SHAPES = {
    "tiny": (4, 256, 768, 8, 4, 4096, torch.float32),
    "1b": (16, 2048, 8192, 32, 8, 128_256, torch.bfloat16),
    "8b": (32, 4096, 14336, 32, 8, 128_256, torch.bfloat16),
}


@contextmanager
def random_live(name: str, device: str) -> Iterator[LiveModel]:
    """A Llama of random weights with a random LoRA on all its projections."""
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, hidden, inside, heads, sharing, vocabulary, dtype = SHAPES[name]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inside,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=sharing,
        max_position_embeddings=4096,
        eos_token_id=None,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = LlamaForCausalLM(config).requires_grad_(False).eval()
    torch.set_default_dtype(torch.float32)
    rng = np.random.default_rng(0)
    tensors = {}
    for path, layer in model.named_modules():
        if isinstance(layer, torch.nn.Linear) and path != "lm_head":
            for side, shape in (("A", (RANK, layer.in_features)), ("B", (layer.out_features, RANK))):
                factor = 0.02 * rng.standard_normal(shape, dtype=np.float32)
                tensors[f"base_model.model.{path}.lora_{side}.weight"] = factor
    with tempfile.TemporaryDirectory() as folder:
        save_file(tensors, Path(folder) / "adapter_model.safetensors", metadata={"format": "pt"})
        settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK}
        settings |= {"target_modules": sorted({key.split(".")[-3] for key in tensors})}
        (Path(folder) / "adapter_config.json").write_text(json.dumps(settings))
        adapter = open_adapter(folder)
        tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=None)
        with LiveModel(LoadedBase(model, tokenizer, name, name), adapter, decompose(adapter)) as live:
            yield live


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


def random_examples(count: int, vocabulary: int) -> list[Example]:
    """Prompts of about 96 tokens and answers of 4."""
    rng = np.random.default_rng(1)
    examples = []
    for index in range(count):
        prompt = rng.integers(1, vocabulary, size=int(rng.integers(PROMPT * 3 // 4, PROMPT * 5 // 4)))
        answer = rng.integers(1, vocabulary, size=4)
        examples.append(Example(str(index), tuple(prompt.tolist()), tuple(answer.tolist()), ""))
    return examples


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
    parser.add_argument("--models", nargs="+", default=["tiny", "demo"], choices=[*SHAPES, "demo"])
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
        with demo_live(options.device) if name == "demo" else random_live(name, options.device) as live:
            count = options.examples
            examples = demo_examples(live, count) if name == "demo" else random_examples(count, SHAPES[name][5])
            for row in rows(name, live, examples, options.rounds):
                print(row, flush=True)


if __name__ == "__main__":
    main()
