"""Adapters that no LoRA opens from, on a tiny Llama: of MLX, of other types of PEFT, and on changed bases."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.models import double, save_model, tiny_llama

IDS = torch.arange(6, 36)[None]
Q1, V1, D2 = "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj", "model.layers.2.mlp.down_proj"


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tiny_llama(), tmp_path_factory.mktemp("base"))


@pytest.fixture
def write_mlx(tmp_path: Path) -> Callable[..., Path]:
    """A folder as mlx_lm.lora writes it, with random factors of rank 3 on three modules of the tiny Llama."""

    def write(*, dora: bool = False, dtype: torch.dtype = torch.float32, **config: Any) -> Path:
        folder, model = tmp_path / "mlx", tiny_llama()
        generator = torch.Generator().manual_seed(3)
        tensors = {}
        for name in (Q1, V1, D2):
            weight = model.get_submodule(name).weight
            out, into = weight.shape
            tensors[f"{name}.lora_a"] = torch.randn(into, 3, generator=generator) * 0.2
            tensors[f"{name}.lora_b"] = torch.randn(3, out, generator=generator) * 0.2
            if dora:
                tensors[f"{name}.m"] = weight.norm(dim=1) * (1 + 0.1 * torch.rand(out, generator=generator))
        folder.mkdir(exist_ok=True)
        save_file(
            {key: tensor.to(dtype).contiguous() for key, tensor in tensors.items()},
            folder / "adapters.safetensors",
        )
        written = {
            "fine_tune_type": "dora" if dora else "lora",
            "lora_parameters": {"rank": 3, "dropout": 0.0, "scale": 20.0},
            "model": "owner/name",
            "num_layers": 2,
            **config,
        }
        (folder / "adapter_config.json").write_text(
            json.dumps({k: v for k, v in written.items() if v is not None})
        )
        return folder

    return write


@contextmanager
def mlx_layers(model: Any, tensors: Mapping[str, torch.Tensor], scale: float) -> Iterator[Any]:
    """The model with the forward of MLX's layers in place of its own, on each row of their inputs."""
    hooks = []
    for name in {key.rpartition(".")[0] for key in tensors}:
        a, b, m = (tensors.get(f"{name}.{part}") for part in ("lora_a", "lora_b", "m"))
        a, b = a.double(), b.double()

        def forward(layer: Any, inputs: Any, output: Any, a: Any = a, b: Any = b, m: Any = m) -> Any:
            made = output + scale * ((inputs[0] @ a) @ b)
            if m is None:
                return made
            return m.double() / (layer.weight + scale * (b.T @ a.T)).norm(dim=1) * made

        hooks.append(model.get_submodule(name).register_forward_hook(forward))
    try:
        yield model
    finally:
        for hook in hooks:
            hook.remove()


def with_peft_in_double(folder: Path, base: Any = None) -> torch.Tensor:
    """Logits of the adapter in `folder`, loaded by peft on the tiny Llama or another base, in float64."""
    model = peft.PeftModel.from_pretrained(double(base or tiny_llama()), folder, autocast_adapter_dtype=False)
    with torch.no_grad():
        return model.double().eval()(IDS).logits


def adapted(config: Any, base: Any = None) -> Any:
    return peft.get_peft_model(copy.deepcopy(base or tiny_llama()), config).eval()
