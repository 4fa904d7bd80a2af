"""What opens here is what PEFT loads on the base, and what is exported is what PEFT then loads, for every kind.

Each kind is saved by PEFT itself, some of them are then changed as people's tools change them. Of the source, where
PEFT can load it, and of the export every factor has to find its place in PEFT's model, and every place its factor.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import peft
import pytest
import safetensors.torch
import torch
from peft.utils import load_peft_weights, set_peft_model_state_dict

from surgery.adapter import open_adapter
from surgery.edits import make_edit
from surgery.export import export
from surgery.policies import RandomIndex
from surgery.spectra import decompose
from tests.helpers.models import tiny_gpt2, tiny_llama
from tests.helpers.zoo import Zoo, updates
from tests.surgery.adapter.test_adapter_variants import Attention, mixture
from tests.surgery.adapter.test_peft_names import KINDS as WRAPPED
from tests.surgery.adapter.test_peft_names import renamed
from tests.surgery.adapter.test_weights import sharded

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
QV = ["q_proj", "v_proj"]
PATTERNS = {
    "rank_pattern": {"q_proj": 2, r"layers\.1\.self_attn\.v_proj": 5},
    "alpha_pattern": {"^model.layers.0.*": 3},
}
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


@dataclass(frozen=True)
class Kind:
    """A base, what PEFT trains on it, what happens to the files, and whether PEFT loads what comes of it."""

    base: Callable[[], Any]
    options: dict[str, Any]
    change: Callable[[Path], Any] = lambda folder: None
    loads: bool = True


def llama(change: Callable[[Path], Any] = lambda folder: None, *, loads: bool = True, **options: Any) -> Kind:
    return Kind(tiny_llama, {"target_modules": QV, **options}, change, loads)


def zoo(**options: Any) -> Kind:
    return Kind(Zoo, options)


def stored_as(dtype: torch.dtype) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        tensors = safetensors.torch.load_file(folder / WEIGHTS)
        safetensors.torch.save_file({key: tensor.to(dtype) for key, tensor in tensors.items()}, folder / WEIGHTS)

    return change


def pickled(folder: Path) -> None:
    torch.save(safetensors.torch.load_file(folder / WEIGHTS), folder / "adapter_model.bin")
    (folder / WEIGHTS).unlink()


def in_encoding(encoding: str) -> Callable[[Path], None]:
    return lambda folder: (folder / CONFIG).write_bytes((folder / CONFIG).read_text().encode(encoding))  # type: ignore[func-returns-value]


KINDS = {
    "plain": llama(),
    "every linear layer": llama(target_modules="all-linear"),
    "an expression": llama(target_modules=r".*layers\.[02]\.self_attn\.[qv]_proj"),
    "some layers": llama(layers_to_transform=[1]),
    "rank-stabilised": llama(use_rslora=True),
    "negative alpha": llama(lora_alpha=-3),
    "ranks above the layer": llama(r=40),
    "patterns": llama(**PATTERNS),
    "bias of the update": llama(lora_bias=True),
    "biases of the layers": Kind(tiny_gpt2, {"target_modules": ["c_attn"], "bias": "lora_only"}),
    "a saved head": llama(modules_to_save=["lm_head"]),
    "trained tokens": llama(trainable_token_indices=[3, 5]),
    "the head": llama(target_modules=["lm_head", "q_proj"]),
    "replicated layers": llama(layer_replication=[[0, 2], [1, 3]]),
    "frozen B": llama(init_lora_weights="mica"),
    "transposed layers": Kind(tiny_gpt2, {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    "an embedding": zoo(target_modules=["table", "linear"]),
    "convolutions": zoo(target_modules=["conv1", "conv2", "conv3"]),
    "stacked experts": zoo(target_modules=[], target_parameters=EXPERTS),
    "transposed experts": zoo(target_modules=[], target_parameters=["swapped.gate_up_proj"]),
    "experts and router": Kind(
        mixture, {"target_modules": QV, "target_parameters": ["gate_up_proj", "down_proj", "gate.weight"]}
    ),
    "torch's attention": Kind(Attention, {"target_modules": ["attn"]}),
    "float16": llama(stored_as(torch.float16)),
    "bfloat16": llama(stored_as(torch.bfloat16)),
    "float64": llama(stored_as(torch.float64)),
    "float8": llama(stored_as(torch.float8_e4m3fn)),
    "a pickle": llama(pickled),
    "shards": llama(lambda folder: sharded(folder, 3), loads=False),
    "a byte-order mark": llama(in_encoding("utf-8-sig"), loads=False),
    "UTF-16": llama(in_encoding("utf-16"), loads=False),
    **{
        name: llama(
            lambda folder, rename=rename: renamed(folder, rename), loads=False, modules_to_save=["lm_head"]
        )
        for name, rename in WRAPPED.items()
    },
}


def trained(kind: Kind, folder: Path) -> Path:
    torch.manual_seed(0)
    config = peft.LoraConfig(**{"r": 3, "lora_alpha": 7, **kind.options})
    model = peft.get_peft_model(kind.base(), config)
    model.peft_config["default"].base_model_name_or_path = "some/base"
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name or "trainable_tokens_delta" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(str(folder))
    kind.change(folder)
    return folder


def live(kind: Kind, folder: Path) -> peft.PeftModel:
    """PEFT's model of a folder, in which every tensor of the file has its place and every place its tensor."""
    model = peft.PeftModel(kind.base(), peft.LoraConfig.from_pretrained(str(folder)))
    state = load_peft_weights(str(folder), device="cpu")
    result = set_peft_model_state_dict(model, state)
    assert not result.unexpected_keys
    assert not [key for key in result.missing_keys if "lora_" in key or "modules_to_save" in key]
    return model.double()


def rounding(factors: Any) -> float:
    """How far ΔW may be from the exact one: the edited factor is rounded once to what it is stored as."""
    edited, other = (factors.A, factors.B) if factors.mirror else (factors.B, factors.A)
    about = ml_dtypes.finfo(edited.dtype)
    size = np.linalg.norm(edited.astype(np.float64))
    unit = float(about.eps) / 2 * size + float(about.smallest_subnormal) / 2 * edited.size**0.5
    # PEFT itself holds factors in float32 at most
    unit += 2.0**-24 * size
    return abs(factors.scaling) * np.linalg.norm(other.astype(np.float64)) * (unit + 2.0**-24 * size)


@pytest.mark.parametrize("name", KINDS)
def test_every_module_of_what_opens_is_live_in_peft_before_and_after_an_edit(name, tmp_path):
    kind = KINDS[name]
    folder = trained(kind, tmp_path / "in")
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    if kind.loads:
        source = updates(live(kind, folder))
        assert set(source) == set(adapter.modules)
        for module, spectrum in spectra.items():
            here = (spectrum.U * spectrum.sigma) @ spectrum.V.T
            assert np.linalg.norm(source[module] - here) <= rounding(adapter.modules[module])
    else:
        assert adapter.changes
    edit = make_edit(spectra, RandomIndex(amp=2.0, sup=0.25), scope="all")
    export(adapter, spectra, edit, tmp_path / "out")
    shutil.rmtree(folder)
    exported = open_adapter(tmp_path / "out")
    assert exported.changes == ()
    after = updates(live(kind, tmp_path / "out"))
    assert set(after) == set(edit.modules) == set(exported.modules)
    for module, spectrum in spectra.items():
        wanted = (spectrum.U * edit.modules[module].sigma_after) @ spectrum.V.T
        assert np.linalg.norm(after[module] - wanted) <= rounding(exported.modules[module])
