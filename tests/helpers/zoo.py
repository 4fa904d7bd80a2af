"""A model with one layer of every kind that LoRA adapts, adapters of it saved by PEFT, and PEFT's own ΔW."""

from pathlib import Path

import numpy as np
import peft
import torch
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers.pytorch_utils import Conv1D


class Experts(nn.Module):
    """Stacked weights of four experts, as mixture-of-experts models keep them."""

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.is_transposed = transposed
        gate, down = ((4, 6, 10), (4, 5, 6)) if transposed else ((4, 10, 6), (4, 6, 5))
        self.gate_up_proj = nn.Parameter(torch.randn(gate))
        self.down_proj = nn.Parameter(torch.randn(down))


class Zoo(nn.Module):
    """One layer of every kind that LoRA adapts."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(7, 5)
        self.table = nn.Embedding(11, 6)
        self.conv1 = nn.Conv1d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 4, (2, 3))
        self.conv3 = nn.Conv3d(2, 3, 2)
        self.experts = Experts(transposed=False)
        self.swapped = Experts(transposed=True)


KINDS = {
    "linear": {"target_modules": ["linear"]},
    "embedding": {"target_modules": ["table"]},
    "convolutions": {"target_modules": ["conv1", "conv2", "conv3"]},
    "experts": {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    "transposed experts": {"target_parameters": ["swapped.gate_up_proj"]},
    "dora": {"target_modules": ["linear", "table", "conv1", "conv2", "conv3"], "use_dora": True},
    "mica": {"target_modules": ["linear", "table"], "init_lora_weights": "mica"},
}


def saved(folder: Path, **options) -> tuple[peft.PeftModel, Path]:
    torch.manual_seed(0)
    plain = {"r": 3, "lora_alpha": 7, "target_modules": [], **options}
    model = peft.get_peft_model(Zoo(), peft.LoraConfig(**plain))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(str(folder))
    return model, folder


def updates(model: peft.PeftModel) -> dict[str, np.ndarray]:
    """PEFT's own dense ΔW as out × in (channels × kernel) matrices, by the name the module has here."""
    found = {}
    for path, layer in model.base_model.model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        delta = layer.get_delta_weight("default").detach().double().numpy()
        name = path.replace(".base_layer", "")
        if delta.ndim == 3 and hasattr(layer, "parameter_name"):
            transposed = getattr(layer.get_base_layer(), "is_transposed", False)
            for e, one in enumerate(delta):
                found[f"{name}.{e}.{layer.parameter_name}"] = one.T if transposed else one
        elif isinstance(layer.get_base_layer(), nn.Embedding | Conv1D):
            found[name] = delta.T
        else:
            found[name] = delta.reshape(delta.shape[0], -1)
    return found
