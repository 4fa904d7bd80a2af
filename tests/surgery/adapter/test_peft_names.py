"""Names of tensors: what wrappers and adapters put into them, and what PEFT loads onto the plain base model."""

from pathlib import Path

import numpy as np
import peft
import pytest
import torch
from peft.tuners.lora import LoraLayer
from peft.utils import load_peft_weights, set_peft_model_state_dict
from safetensors.numpy import load_file, save_file

from surgery.adapter import open_adapter
from surgery.edits import make_edit
from surgery.export import export
from surgery.policies import Rank
from surgery.spectra import decompose
from tests.helpers.models import tiny_llama
from tests.surgery.adapter.conftest import KEY_A, KEY_B, O0, refusal

PREFIX = "base_model.model."
WEIGHTS = "adapter_model.safetensors"
TARGETS = ["q_proj", "v_proj", "down_proj"]


def trained(folder: Path, **options) -> Path:
    """A tiny adapter with a saved head, as PEFT saves it on the plain base model."""
    torch.manual_seed(0)
    plain = {"r": 3, "lora_alpha": 7, "target_modules": TARGETS, "modules_to_save": ["lm_head"], **options}
    model = peft.get_peft_model(tiny_llama(), peft.LoraConfig(task_type="CAUSAL_LM", **plain))
    model.peft_config["default"].base_model_name_or_path = "some/base"
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(str(folder))
    return folder


def renamed(folder: Path, rename) -> Path:
    tensors = load_file(folder / WEIGHTS)
    save_file({rename(key): tensor for key, tensor in tensors.items()}, folder / WEIGHTS)
    return folder


def in_peft(folder: Path) -> peft.PeftModel:
    """The plain base model with the adapter; every tensor of the file has found its place and every place its tensor."""
    config = peft.LoraConfig.from_pretrained(str(folder))
    model = peft.PeftModel(tiny_llama(), config)
    result = set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))
    assert not result.unexpected_keys
    assert not [key for key in result.missing_keys if "lora_" in key or "modules_to_save" in key]
    return model


def updates(model: peft.PeftModel) -> dict[str, np.ndarray]:
    layers = {
        name: layer for name, layer in model.base_model.model.named_modules() if isinstance(layer, LoraLayer)
    }
    return {
        name: layer.scaling["default"]
        * (layer.lora_B["default"].weight.double() @ layer.lora_A["default"].weight.double()).detach().numpy()
        for name, layer in layers.items()
    }


def in_layers(wrapper: str):
    """As where each block was wrapped by itself."""
    return lambda key: key.replace("layers.0.", f"layers.0.{wrapper}").replace("mlp.", f"mlp.{wrapper}")


def after_prefix(part: str):
    return lambda key: key.replace(PREFIX, PREFIX + part, 1)


def of_adapter(name: str):
    def rename(key: str) -> str:
        key = key.replace("lm_head.", f"lm_head.modules_to_save.{name}.")
        return key.replace("lora_A.", f"lora_A.{name}.").replace("lora_B.", f"lora_B.{name}.")

    return rename


KINDS = {
    "compiled around": lambda key: f"_orig_mod.{key}",
    "compiled inside": after_prefix("_orig_mod."),
    "compiled blocks": in_layers("_orig_mod."),
    "compiled factors": lambda key: key.replace("lora_A.", "lora_A._orig_mod."),
    "fully sharded": after_prefix("_fsdp_wrapped_module."),
    "fully sharded blocks": in_layers("_fsdp_wrapped_module."),
    "checkpointed blocks": in_layers("_checkpoint_wrapped_module."),
    "sharded and checkpointed": in_layers("_fsdp_wrapped_module._checkpoint_wrapped_module."),
    "data parallel around": lambda key: f"module.{key}",
    "data parallel between": lambda key: key.replace("base_model.model.", "base_model.module.model."),
    "data parallel inside": after_prefix("module."),
    "data parallel twice": after_prefix("module.module."),
    "doubled": after_prefix(PREFIX),
    "tripled": after_prefix(2 * PREFIX),
    "of a training loop": lambda key: f"model.{key}",
    "without": lambda key: key.removeprefix(PREFIX),
    "default": of_adapter("default"),
    "named": of_adapter("sft"),
    "named like a part": of_adapter("lora_sft"),
    "all at once": lambda key: f"module._orig_mod.{of_adapter('sft')(in_layers('_fsdp_wrapped_module.')(key))}",
}


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_wrapped_the_model_peft_loads_the_whole_edit_onto_the_plain_base(kind, tmp_path):
    folder = renamed(trained(tmp_path / "in"), KINDS[kind])
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=2), scope="all")
    export(adapter, spectra, edit, tmp_path / "out")
    live = updates(in_peft(tmp_path / "out"))
    assert set(live) == set(edit.modules)
    assert len(live) == 9
    for name, found in live.items():
        wanted = (spectra[name].U * edit.modules[name].sigma_after) @ spectra[name].V.T
        size = np.linalg.norm(adapter.modules[name].B) * np.linalg.norm(adapter.modules[name].A)
        assert np.linalg.norm(found - wanted) <= 2.0**-24 * abs(adapter.modules[name].scaling) * size
    assert any("exported" in change for change in adapter.changes)
    assert set(adapter.changes) <= set(adapter.notes)


def test_names_that_peft_gave_are_kept_and_nothing_is_said(tmp_path):
    folder = trained(tmp_path / "in")
    adapter = open_adapter(folder)
    assert adapter.changes == ()
    assert {key: tensor.tobytes() for key, tensor in adapter.tensors.items()} == {
        key: tensor.tobytes() for key, tensor in load_file(folder / WEIGHTS).items()
    }


def test_the_note_names_what_stood_around(one, write_adapter):
    adapter = open_adapter(write_adapter({f"module.{key}": tensor for key, tensor in one.items()}))
    (note,) = adapter.changes
    assert "'module.'" in note
    assert set(adapter.tensors) == {KEY_A, KEY_B}


def test_half_of_the_prefix_is_none(lora_tensors, write_adapter):
    tensors = lora_tensors({"transformer.h.0.attn.c_attn": (6, 4, 5)})
    half = {key.replace(PREFIX, "base_model."): tensor for key, tensor in tensors.items()}
    adapter = open_adapter(write_adapter(half))
    assert set(adapter.tensors) == set(tensors)
    assert "'base_model.'" in adapter.changes[0]


def test_what_is_no_part_of_the_model_keeps_its_name(one, write_adapter):
    assert "step" in open_adapter(write_adapter({**one, "step": np.ones(1, np.float32)})).tensors


def test_a_module_of_that_name_inside_the_model_is_kept(lora_tensors, write_adapter):
    names = ["stages.0.module.q_proj", "module.q_proj", "head.q_proj"]
    adapter = open_adapter(write_adapter(lora_tensors(dict.fromkeys(names, (6, 4, 5)))))
    assert sorted(adapter.modules) == sorted(names)
    assert adapter.changes == ()


def test_a_module_of_that_name_around_all_is_kept_where_no_base_is_named(lora_tensors, write_adapter):
    tensors = lora_tensors({"module.q_proj": (6, 4, 5)})
    assert list(open_adapter(write_adapter(tensors, base_model_name_or_path=None)).modules) == ["module.q_proj"]
    assert list(open_adapter(write_adapter(tensors)).modules) == ["q_proj"]


def two_adapters(folder: Path) -> Path:
    """Two adapters on one model, as the state of the whole model holds them."""
    first, second = (load_file(trained(folder / name) / WEIGHTS) for name in ("sft", "dpo"))
    both = {of_adapter("sft")(key): tensor for key, tensor in first.items()}
    both |= {of_adapter("dpo")(key): 2 * tensor for key, tensor in second.items()}
    trained(folder / "both")
    save_file(both, folder / "both" / WEIGHTS)
    return folder / "both"


def test_of_two_adapters_both_are_named_and_the_way_out_opens_one(tmp_path):
    folder = two_adapters(tmp_path)
    message = refusal(folder)
    assert "'dpo', 'sft'" in message
    way = message.rpartition("such as ")[2]
    assert way == f"{folder}#dpo"
    chosen, other = open_adapter(way), open_adapter(f"{folder}#sft")
    assert chosen.tensors.keys() == other.tensors.keys()
    for key, tensor in other.tensors.items():
        assert (chosen.tensors[key] == 2 * tensor).all()
    assert chosen.digest != other.digest
    assert any("other adapters beside 'dpo'" in change for change in chosen.changes)


def test_the_chosen_adapter_is_exported_alone(tmp_path):
    adapter = open_adapter(f"{two_adapters(tmp_path)}#sft")
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=1), scope="all")
    export(adapter, spectra, edit, tmp_path / "out")
    assert set(updates(in_peft(tmp_path / "out"))) == set(edit.modules)


def test_a_name_that_the_file_does_not_have_is_refused_with_those_it_has(tmp_path):
    message = refusal(f"{two_adapters(tmp_path)}#rlhf")
    assert "'rlhf'" in message
    assert "'dpo', 'sft'" in message
    assert "'default'" in refusal(f"{trained(tmp_path / 'plain')}#sft")


def test_a_folder_with_a_hash_in_its_name_is_itself(tmp_path):
    folder = trained(tmp_path / "run#3")
    assert open_adapter(folder).digest == open_adapter(trained(tmp_path / "other")).digest
    assert len(open_adapter(f"{folder}#default").modules) == 9


@pytest.mark.parametrize("twin", [KEY_A.removeprefix(PREFIX), f"module.{KEY_A}"])
def test_two_tensors_that_would_get_one_name_are_refused(twin, one, write_adapter):
    assert O0 in refusal(write_adapter({**one, twin: one[KEY_A]}))
