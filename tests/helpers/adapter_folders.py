"""Folders of small adapters at given paths, written without a model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from surgery.adapter import PREFIX

# (out, in) of the modules of a layer
WIDE = {
    "self_attn.q_proj": (12, 10),
    "self_attn.o_proj": (10, 12),
    "mlp.down_proj": (10, 20),
}


def factors(
    r: int = 4, *, seed: int = 1, layers: int = 2, shapes: Mapping[str, tuple[int, int]] = WIDE
) -> dict[str, np.ndarray]:
    """Random factors by PEFT key."""
    rng, found = np.random.default_rng(seed), {}
    for layer in range(layers):
        for path, (out, into) in shapes.items():
            for side, shape in (("A", (r, into)), ("B", (out, r))):
                key = f"{PREFIX}model.layers.{layer}.{path}.lora_{side}.weight"
                found[key] = (0.3 * rng.standard_normal(shape)).astype(np.float32)
    return found


def write_adapter_at(folder: Path, tensors: Mapping[str, np.ndarray], **config: Any) -> Path:
    """An adapter of these factors in `folder`; rank and targets are read off them."""
    first = next(each for key, each in tensors.items() if ".lora_A." in key)
    targets: Sequence[str] = sorted({key.split(".lora_")[0].rpartition(".")[2] for key in tensors})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "made-up/base",
        "r": first.shape[0],
        "lora_alpha": 8,
        "target_modules": targets,
        **config,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    save_file(dict(tensors), folder / "adapter_model.safetensors", metadata={"format": "pt"})
    return folder
