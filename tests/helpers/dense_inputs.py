"""E‖ΔWx‖² of every module by hooks on PEFT's own layers, one unpadded row at a time, with PEFT's dense ΔW."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from surgery.data import Example
from surgery.sensitivity import InputMoments
from tests.helpers.models import GPT2_TARGETS, tiny_gpt2, tiny_llama

EXACT = 1e-6  # relative, where both sides compute in float64


class Smoothing(nn.Module):
    """A convolution over tokens in place of an MLP; it sees only what is before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mix = nn.Conv1d(width, width, 1)
        self.flat = nn.Conv2d(1, 1, (1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = self.mix(x.transpose(1, 2)).transpose(1, 2)
        return x + torch.tanh(mixed) + self.flat(mixed[:, None])[:, 0] / 8


def convolving() -> Any:
    model = tiny_llama()
    torch.manual_seed(2)
    for layer in model.model.layers[1:]:
        layer.mlp = Smoothing(model.config.hidden_size).requires_grad_(False)
    return model


CASES: Mapping[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "llama": (tiny_llama, {"use_rslora": True, "rank_pattern": {"o_proj": 6}, "alpha_pattern": {"k_proj": 3}}),
    "gpt2": (tiny_gpt2, {"targets": GPT2_TARGETS, "fan_in_fan_out": True}),
    "dora": (tiny_llama, {"use_dora": True, "targets": ("q_proj", "down_proj")}),
    "embeddings and head": (tiny_llama, {"targets": ("embed_tokens", "lm_head", "v_proj")}),
    "convolution": (convolving, {"targets": ("mix", "flat", "o_proj")}),
}


@dataclass
class Tokens:
    """E‖ΔWx‖² of one module summed over prompt and over answer tokens, with their counts."""

    energy: dict[str, float] = field(default_factory=lambda: {"prompt": 0.0, "answer": 0.0})
    count: dict[str, int] = field(default_factory=lambda: {"prompt": 0, "answer": 0})

    def mean(self, part: str) -> float:
        parts = ("prompt", "answer") if part == "all" else (part,)
        return sum(self.energy[each] for each in parts) / sum(self.count[each] for each in parts)

    def add(self, part: str, energies: torch.Tensor) -> None:
        self.energy[part] += float(energies.double().sum())
        self.count[part] += energies.numel()


def energies(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """‖ΔWx‖² of every token of one row that a PEFT layer is given, with the dense ΔW of PEFT itself."""
    delta = layer.get_delta_weight("default").double()
    if isinstance(layer.base_layer, nn.Embedding):
        return (delta[x[0]] ** 2).sum(-1)
    if isinstance(layer.base_layer, nn.Conv1d):
        return (nn.functional.conv1d(x.double(), delta) ** 2).sum(1)[0]
    if type(layer.base_layer).__name__ == "Conv1D":
        delta = delta.T
    return ((x.double() @ delta.T) ** 2).sum(-1)[0]


def dense(
    peft_model: Any, names: Sequence[str], examples: Sequence[Example], run: Callable[[Any, Example], Any]
) -> dict[str, Tokens]:
    """By hooks on PEFT's layers, one example after the other and each alone, as a causal language model is read."""
    found = {name: Tokens() for name in names}
    prompts = [0]

    def hook(name: str, layer: Any, given: tuple[torch.Tensor, ...]) -> None:
        each = energies(layer, given[0])
        found[name].add("prompt", each[: prompts[0]])
        found[name].add("answer", each[prompts[0] :])

    own = dict(peft_model.base_model.model.named_modules())
    hooks = [own[name].register_forward_pre_hook(partial(hook, name)) for name in names]
    with torch.no_grad():
        for example in examples:
            prompts[0] = len(example.prompt_ids)
            run(peft_model, example)
    for each in hooks:
        each.remove()
    return found


def whole(model: Any, example: Example) -> Any:
    return model(input_ids=torch.tensor([[*example.prompt_ids, *example.answer_ids]]))


def functional(live: Any, inputs: InputMoments, name: str, part: str) -> float:
    """Σσ²q."""
    return float(live.spectra[name].sigma ** 2 @ inputs.q(name, part))
