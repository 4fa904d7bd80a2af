"""AdaLoRA adapters that peft saves, pruned by a pattern as its allocator leaves one."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model

TRIPLETS = 5


def with_adalora(model: Any, targets: Sequence[str], *, seed: int = 1, **config: Any) -> PeftModel:
    """Random triplets on a copy of `model`; each module keeps some, the second one none, the last one all."""
    settings = {"init_r": TRIPLETS, "target_r": 2, "total_step": 10, "lora_alpha": 16, **config}
    adapted = get_peft_model(copy.deepcopy(model), AdaLoraConfig(target_modules=list(targets), **settings))
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    # named as the allocator names them while it trains
    names = [n for n, _ in adapted.base_model.model.named_parameters() if ".lora_E." in n]
    kept = {name: [True, *rng.choice([True, False], size=TRIPLETS - 1).tolist()] for name in names[:-1]}
    kept[names[1]] = [False] * TRIPLETS
    adapted.peft_config["default"].rank_pattern = kept
    return adapted


def save_adalora(model: Any, folder: Path, targets: Sequence[str], **config: Any) -> Path:
    """The folder that peft writes of `with_adalora`."""
    with_adalora(model, targets, **config).save_pretrained(folder)
    return folder
