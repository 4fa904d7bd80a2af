"""Every causal family of the installed transformers: the way taken, and evaluation against one row at a time.

    python tests/benchmarks/causal_families.py [FAMILY …]

Each model is as small as its config allows and has random weights and a LoRA of peft's on its linear layers. Five
rows that begin alike go through calibration, likelihoods, losses and greedy answers, together with a second variant
without the adapter's update. The reference is transformers' model with peft's layers (or with none) on one row of ids,
without padding, mask, positions or a cache.
"""

import signal
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from surgery import SurgeryError
from surgery.data import Calibration, Encoding, Example
from surgery.model import VariantEngine, Way
from surgery.sensitivity import measure_sensitivity
from tests.helpers.families import attached, build, reference, train
from tests.helpers.models import EOS, VOCABULARY

OPENING, LIMIT, SECONDS = 30, 6, 90
# what no part of this table is about: a tower of pictures or sound that no setting makes small
TOWERS = (
    "fuyu",
    "gemma3",
    "gemma3n",
    "gemma4",
    "gemma4_unified",
    "gemma4_unified_assistant",
    "got_ocr2",
    "moss_transcribe_diarize",
    "musicgen",
    "musicgen_melody",
)


def rows() -> list[Example]:
    """Rows whose prompts begin alike and end at different lengths, two of them at the same."""
    rng = np.random.default_rng(0)
    ids = rng.integers(6, VOCABULARY, size=(5, OPENING + 20)).tolist()
    made = []
    for number, (row, length, answer) in enumerate(zip(ids, (1, 4, 9, 9, 13), (3, 1, 4, 2, 3), strict=True)):
        prompt = (*ids[0][:OPENING], *row[OPENING : OPENING + length])
        made.append(Example(f"row {number}", prompt, tuple(row[-answer:]), ""))
    return made


@torch.no_grad()
def alone(model: Any, examples: Sequence[Example]) -> tuple[np.ndarray, list[list[int]]]:
    """Loss of every example's answer in nats per token and the greedy answer to its prompt, one row at a time."""
    losses, answers = [], []
    ends = {EOS, getattr(model.generation_config, "eos_token_id", EOS)}
    for example in examples:
        ids = torch.tensor([[*example.prompt_ids, *example.answer_ids]])
        logs = model(input_ids=ids[:, :-1], use_cache=False).logits[0].double().log_softmax(-1)
        first, targets = len(example.prompt_ids) - 1, torch.tensor(example.answer_ids)
        losses.append(-float(logs[first:].gather(1, targets[:, None]).mean()))
        said: list[int] = []
        while len(said) < LIMIT:
            ids = torch.tensor([[*example.prompt_ids, *said]])
            token = int(model(input_ids=ids, use_cache=False).logits[0, -1].argmax())
            if token in ends:
                break
            said.append(token)
        answers.append(said)
    return np.array(losses), answers


def compared(kind: str, folder: Path) -> str:
    """A line of the table."""
    examples = rows()
    train(kind, folder)
    with attached(kind, folder) as live:
        silent = {name: np.zeros_like(spectrum.sigma) for name, spectrum in live.spectra.items()}
        engine = VariantEngine(live, {"adapter": None, "base": silent})
        answered = engine.answer(examples, max_new_tokens=LIMIT)
        losses = engine.answer_losses(examples)
        likelihoods = engine.log_likelihoods([(e.prompt_ids, e.answer_ids) for e in examples])
        measured = measure_sensitivity(live, Calibration(tuple(examples), Encoding()), list(live.spectra))
        way = named(live.way)
    apart, equal = 0.0, 0
    for name, model in (("adapter", reference(kind, folder)), ("base", build(kind))):
        expected, answers = alone(model, examples)
        found = [
            [each.loss for each in answered[name]],
            losses[name],
            [-s.log_likelihood / len(e.answer_ids) for s, e in zip(likelihoods[name], examples, strict=True)],
            *([measured.losses] if name == "adapter" else []),
        ]
        apart = max(apart, float(np.abs(np.array(found) - expected).max()))
        equal += sum(each.tokens == answer for each, answer in zip(answered[name], answers, strict=True))
    return f"| {kind} | {way} | {apart:.1e} | {equal} of {2 * len(examples)} |"


def named(way: Way) -> str:
    """The layouts and what is left out of the fastest way."""
    if way == Way():
        return "fastest"
    parts = [f"scored {way.scoring}", f"decoded {way.decoding}"]
    lacking = {"no cache": not way.cached, "no shared opening": way.cached and not way.shared}
    lacking["answers scored apart"] = way.cached and not way.follows
    return ", ".join([*parts, *(what for what, is_so in lacking.items() if is_so)])


def line(kind: str) -> str:
    """The outcome for one family, whatever it is."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"not within {SECONDS} s")

    if kind in TOWERS:
        return f"| {kind} | not built: has no small form | | |"
    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        build(kind)
    except Exception as error:
        return f"| {kind} | not built: {_short(error)} | | |"
    try:
        with tempfile.TemporaryDirectory() as folder:
            return compared(kind, Path(folder))
    except SurgeryError as error:
        return f"| {kind} | refused: {error.problem} | | |"
    except Exception as error:
        return f"| {kind} | FAILED: {_short(error)} | | |"
    finally:
        signal.alarm(0)


def _short(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:110]}".replace("|", "/")


def main() -> None:
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    kinds = sys.argv[1:] or [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "falcon-alibi"]
    print("| family | way | largest difference of a loss, nats | answers equal |")
    print("| --- | --- | --- | --- |")
    for kind in kinds:
        print(line(kind), flush=True)


if __name__ == "__main__":
    main()
