"""All that the engine and a calibration say of five rows, and what a plain model says of each row alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from surgery.data import Calibration, Encoding, Example
from surgery.model import LiveModel, VariantEngine
from surgery.sensitivity import measure_sensitivity
from tests.helpers.models import EOS, VOCABULARY

OPENING, LIMIT = 30, 6


def _rows() -> tuple[Example, ...]:
    """Prompts that begin alike and end at different lengths, two of them at the same."""
    ids = np.random.default_rng(0).integers(6, VOCABULARY, size=(5, OPENING + 20)).tolist()
    made = []
    for number, (row, length, answer) in enumerate(zip(ids, (1, 4, 9, 9, 13), (3, 1, 4, 2, 3), strict=True)):
        prompt = (*ids[0][:OPENING], *row[OPENING : OPENING + length])
        made.append(Example(f"row {number}", prompt, tuple(row[-answer:]), ""))
    return tuple(made)


ROWS = _rows()


@dataclass(frozen=True)
class Alone:
    """Loss of every row's answer in nats per token, and the greedy answer to its prompt."""

    losses: np.ndarray
    answers: list[list[int]]


@torch.no_grad()
def alone(model: Any) -> Alone:
    """Each row by itself: no padding, no mask, no positions, no cache."""
    losses, answers = [], []
    ends = {EOS, getattr(model.generation_config, "eos_token_id", EOS)}
    for row in ROWS:
        ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]])
        logs = model(input_ids=ids[:, :-1], use_cache=False).logits[0].double().log_softmax(-1)
        first, targets = len(row.prompt_ids) - 1, torch.tensor(row.answer_ids)
        losses.append(-float(logs[first:].gather(1, targets[:, None]).mean()))
        said: list[int] = []
        while len(said) < LIMIT:
            ids = torch.tensor([[*row.prompt_ids, *said]])
            token = int(model(input_ids=ids, use_cache=False).logits[0, -1].argmax())
            if token in ends:
                break
            said.append(token)
        answers.append(said)
    return Alone(np.array(losses), answers)


@dataclass(frozen=True)
class Together:
    """Losses in nats per token by variant and where they come from, and greedy answers by variant."""

    losses: list[tuple[str, np.ndarray]]
    answers: dict[str, list[list[int]]]


def together(live: LiveModel) -> Together:
    """The adapter (`adapter`) and its base without its update (`base`) in the same batches, in every way there is."""
    silent = {name: np.zeros_like(spectrum.sigma) for name, spectrum in live.spectra.items()}
    engine = VariantEngine(live, {"adapter": None, "base": silent})
    answered = engine.answer(ROWS, max_new_tokens=LIMIT)
    losses = [(name, np.array([each.loss for each in found])) for name, found in answered.items()]
    losses += engine.answer_losses(ROWS).items()
    pairs = [(row.prompt_ids, row.answer_ids) for row in ROWS]
    tokens = np.array([len(row.answer_ids) for row in ROWS])
    for name, scored in engine.log_likelihoods(pairs).items():
        losses.append((name, -np.array([each.log_likelihood for each in scored]) / tokens))
    measured = measure_sensitivity(live, Calibration(ROWS, Encoding()), list(live.spectra))
    losses.append(("adapter", measured.losses))
    return Together(losses, {name: [each.tokens for each in found] for name, found in answered.items()})
