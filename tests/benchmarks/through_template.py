"""A whole path on a real base: an adapter trained by TRL through a chat template, from `messages` rows to a proof.

    python -m tests.benchmarks.through_template BASE --template gemma3 --steps 40

BASE is a GGUF file or a model folder; `--template` names one of the templates that TRL ships, for a base that has none.
It trains on the rows of a demo written as conversations, saves adapter and tokenizer in one folder, and then does what
a person does with the command line: look at the tokens, calibrate, edit, prove. Beside it stand the losses of plain
transformers with PEFT on the ids that TRL's own collation made, one row at a time.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl
from datasets import Dataset
from peft import LoraConfig, PeftModel
from trl import SFTConfig, SFTTrainer

from surgery import decompose, open_adapter
from surgery.cli import main as command
from surgery.data import Encoding, read_source
from surgery.model import BaseChoice, LoadedBase, VariantEngine, attach, load_base

SYSTEM = "Answer with the result alone."
TARGETS = ["q_proj", "v_proj", "o_proj", "down_proj"]


def conversations(source: str, count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows of a demo as conversations with a system prompt."""
    rows = read_source(source).rows[start : start + count]
    return [
        {
            "messages": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": row.prompt},
                {"role": "assistant", "content": row.answer},
            ]
        }
        for row in rows
    ]


def prompt_completion(rows: Sequence[dict[str, Any]]) -> Dataset:
    return Dataset.from_list(
        [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in rows]
    )


def train(base: LoadedBase, rows: Sequence[dict[str, Any]], held: Sequence[dict[str, Any]], out: Path, steps: int):
    """Train with TRL, save adapter and tokenizer to `out`; the held-out rows as TRL collates them, and the losses."""
    torch.manual_seed(0)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS, task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=base.model,
        args=SFTConfig(
            output_dir=str(out / "run"),
            max_steps=steps,
            per_device_train_batch_size=4,
            learning_rate=4e-4,
            report_to=[],
            use_cpu=True,
            bf16=False,
            logging_steps=10,
            save_strategy="no",
            gradient_checkpointing=False,
            lr_scheduler_type="constant",
        ),
        train_dataset=prompt_completion(rows),
        eval_dataset=prompt_completion(held),
        processing_class=base.tokenizer,
        peft_config=config,
    )
    begun = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - begun
    trainer.model.save_pretrained(out / "adapter")
    base.tokenizer.save_pretrained(out / "adapter")
    losses = [record["loss"] for record in trainer.state.log_history if "loss" in record]
    return [(row["input_ids"], row["labels"]) for row in trainer.eval_dataset], losses, seconds


def plain_losses(
    model: Any, collated: Sequence[tuple[Sequence[int], Sequence[int]]], ends: Sequence[int]
) -> list[float]:
    """The mean loss over each row's labels up to its end of turn, one row at a time, without padding or cache."""
    found = []
    for (ids, labels), end in zip(collated, ends, strict=True):
        input_ids = torch.tensor([list(ids)[:end]])
        target = torch.tensor([list(labels)[:end]])
        with torch.inference_mode():
            logits = model(input_ids=input_ids, use_cache=False).logits[0, :-1].double()
        found.append(float(torch.nn.functional.cross_entropy(logits, target[0, 1:], ignore_index=-100)))
    return found


def run(base: str, template: str, steps: int, demo: str, folder: Path) -> None:
    choice = BaseChoice(base)
    rows, held = conversations(f"demo:{demo}/calibration", 192), conversations(f"demo:{demo}/test", 48)
    for name, part in (("train", rows), ("held-out", held)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, part)) + "\n", encoding="utf-8")
    loaded = load_base(choice.location)
    if template:
        file = Path(trl.__file__).parent / "chat_templates" / f"{template}.jinja"
        loaded.tokenizer.chat_template = file.read_text(encoding="utf-8")
    collated, losses, seconds = train(loaded, rows, held, folder, steps)
    print(f"trained {steps} steps in {seconds:.0f} s; loss {losses[0]:.3f} to {losses[-1]:.3f}")
    compare(choice, folder, collated)
    use(choice, folder)


def compare(choice: BaseChoice, folder: Path, collated: Sequence[tuple[Sequence[int], Sequence[int]]]) -> None:
    """Our losses of the held-out rows against plain ones on TRL's ids."""
    adapter = open_adapter(folder / "adapter")
    held = read_source(str(folder / "held-out.jsonl")).rows
    with attach(adapter, decompose(adapter), choice) as live:
        examples = live.encode(held, Encoding()).examples
        ours = VariantEngine(live, {"unedited": None}).answer_losses(examples)["unedited"]
    equal = sum(
        list(ids)[: e.length] == [*e.prompt_ids, *e.answer_ids]
        for (ids, _), e in zip(collated, examples, strict=True)
    )
    model = PeftModel.from_pretrained(load_base(choice.location).model, folder / "adapter").eval()
    plain = plain_losses(model, collated, [example.length for example in examples])
    print(f"ids equal to TRL's: {equal} of {len(examples)} rows")
    print(f"mean loss, ours {ours.mean():.6f}, plain on TRL's ids {np.mean(plain):.6f}")
    print(f"largest difference of a row: {np.abs(ours - plain).max():.1e}")


def use(choice: BaseChoice, folder: Path) -> None:
    """What a person does with the command line."""
    shared = [str(folder / "adapter"), "--base", choice.location, "--data"]
    train_rows, held_rows, g = (str(folder / name) for name in ("train.jsonl", "held-out.jsonl", "g.safetensors"))
    command(["calibrate", *shared, train_rows, "--examples", "4", "--preview"])
    command(["calibrate", *shared, train_rows, "--examples", "48", "--batch-size", "4", "--out", g])
    policy = ["--policy", "grad_direction", "--eta-suppress", "1.0", "--scope", "residual"]
    command(["edit", str(folder / "adapter"), *policy, "--sensitivities", g, "--out", str(folder / "edited")])
    variant = ["--variant", str(folder / "edited"), "--random", "3", "--again", "--batch-size", "4"]
    command(["evaluate", *shared, held_rows, *variant])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("base", help="a GGUF file or a model folder")
    parser.add_argument("--template", default="", help="a template that TRL ships, for a base without one")
    parser.add_argument("--steps", type=int, default=40, help="training steps of four rows")
    parser.add_argument("--demo", default="arithmetic", help="whose rows")
    options = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, TRL {trl.__version__}")
    with tempfile.TemporaryDirectory() as name:
        run(options.base, options.template, options.steps, options.demo, Path(name))


if __name__ == "__main__":
    main()
