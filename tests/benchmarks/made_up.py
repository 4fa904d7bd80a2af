"""Adapters in the shape of large models, with random factors on small widths and random sensitivities in the store.

No base model is needed to look at spectra or to turn knobs, so none is loaded. The pages' latencies are measured on
them beside the demo.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from surgery import decompose, open_adapter
from surgery.data import Encoding
from surgery.sensitivity import Provenance, Sensitivity, save_sensitivity

_NARROW, _WIDE, _INNER = 64, 512, 896
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Shape:
    """Layers, rank, and (out, in) of every module of a layer by its path in it."""

    name: str
    layers: int
    rank: int
    modules: Mapping[str, tuple[int, int]]
    examples: int


def _in_out(family: str, width: int, inner: int) -> tuple[int, int]:
    return {
        "k_proj": (width // 4, width),
        "v_proj": (width // 4, width),
        "gate_proj": (inner, width),
        "up_proj": (inner, width),
        "down_proj": (width, inner),
    }.get(family, (width, width))


RESIDUAL_8B = Shape(
    "8B-shaped", 36, 16, dict.fromkeys(("self_attn.o_proj", "mlp.down_proj"), (_NARROW, _NARROW)), 128
)
ALL_8B = Shape(
    "8B-shaped",
    36,
    16,
    {
        f"{part}.{family}": _in_out(family, _WIDE, _INNER)
        for part, families in (("self_attn", ATTENTION), ("mlp", MLP))
        for family in families
    },
    64,
)
EXPERTS = Shape(
    "128 experts",
    48,
    8,
    {
        **{f"self_attn.{family}": _in_out(family, _NARROW, _NARROW) for family in ATTENTION},
        **{
            f"mlp.experts.{expert}.{family}": _in_out(family, _NARROW, _NARROW)
            for expert in range(128)
            for family in MLP
        },
    },
    32,
)


def made_up(record: dict[str, Any], folder: Path, home: Path, shape: Shape) -> dict[str, Any]:
    """The workspace `record` on a random adapter of a shape, written to `folder`, its sensitivities to `home`."""
    rng = np.random.default_rng(0)
    tensors = {}
    for layer in range(shape.layers):
        for path, (out, inner) in shape.modules.items():
            module = f"base_model.model.model.layers.{layer}.{path}"
            tensors[f"{module}.lora_A.weight"] = rng.normal(size=(shape.rank, inner)).astype(np.float32) * 0.05
            tensors[f"{module}.lora_B.weight"] = rng.normal(size=(out, shape.rank)).astype(np.float32) * 0.05
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": f"made-up/{shape.name}",
        "r": shape.rank,
        "lora_alpha": 2 * shape.rank,
        "target_modules": sorted({path.rpartition(".")[2] for path in shape.modules}),
    }
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "adapter_model.safetensors")
    adapter = open_adapter(folder)
    values = {
        name: rng.normal(rng.normal(size=spectrum.rank) / 8, 1, (shape.examples, spectrum.rank)) / 10
        for name, spectrum in decompose(adapter).items()
    }
    provenance = Provenance(adapter.digest, "made up", "made up", Encoding(), tuple(values), "float32")
    file = home / "sensitivities" / f"{provenance.key}-{record['calibration']['batch_size']}.safetensors"
    save_sensitivity(Sensitivity(values, rng.normal(1, 0.1, shape.examples), provenance), file)
    of = {"source": str(folder), "digest": adapter.digest}
    return {**record, "adapter": of, "base": None, "evaluation": None, "sensitivity": provenance.key}
