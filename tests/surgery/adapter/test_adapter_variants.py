"""Adapters beyond plain linear layers: opened from their files, edited and written back.

Every oracle is PEFT itself: its own saved files, its own matching of names, its own ΔW.
"""

import copy
import json
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import ml_dtypes
import numpy as np
import peft
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors.numpy import load_file
from torch import nn
from transformers import MixtralConfig, MixtralForCausalLM

from surgery.adapter import LoraRules, open_adapter
from surgery.data import Encoding
from surgery.edits import make_edit
from surgery.errors import AdapterError, SurgeryError
from surgery.export import export
from surgery.policies import GradDirection, Rank, make_policy
from surgery.sensitivity import Provenance, Sensitivity
from surgery.spectra import decompose
from tests.helpers.zoo import KINDS, saved, updates


@pytest.mark.parametrize("kind", KINDS)
def test_the_spectrum_of_every_kind_of_layer_is_that_of_pefts_own_update(kind, tmp_path):
    model, folder = saved(tmp_path / "adapter", **KINDS[kind])
    expected, spectra = updates(model), decompose(open_adapter(folder))
    assert set(spectra) == set(expected)
    for name, spectrum in spectra.items():
        sigma = np.linalg.svd(expected[name], compute_uv=False)[: spectrum.rank]
        assert spectrum.sigma == pytest.approx(sigma, rel=1e-5, abs=1e-6)
        rebuilt = (spectrum.U * spectrum.sigma) @ spectrum.V.T
        assert rebuilt == pytest.approx(expected[name], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_an_exported_edit_of_every_kind_of_layer_is_the_edit_in_peft(kind, tmp_path):
    model, folder = saved(tmp_path / "adapter", **KINDS[kind])
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=2), scope="all")
    report = export(adapter, spectra, edit, tmp_path / "out")
    assert report.rounding < 1e-6
    reloaded = updates(peft.PeftModel.from_pretrained(model.unload(), str(tmp_path / "out")))
    for name, before in spectra.items():
        wanted = (before.U * edit.modules[name].sigma_after) @ before.V.T
        assert reloaded[name] == pytest.approx(wanted, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_factor_that_is_not_edited_stays_byte_equal(kind, tmp_path):
    _, folder = saved(tmp_path / "adapter", **KINDS[kind])
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    export(adapter, spectra, make_edit(spectra, Rank(keep=1), scope="all"), tmp_path / "out")
    after = load_file(tmp_path / "out" / "adapter_model.safetensors")
    side = "A" if kind == "mica" else "B"
    for key, tensor in adapter.tensors.items():
        same = after[key].tobytes() == tensor.tobytes()
        assert same != (f"lora_{side}" in key or f"lora_embedding_{side}" in key)


def test_experts_that_share_a_tensor_are_edited_apart(tmp_path):
    _, folder = saved(tmp_path / "adapter", **KINDS["experts"])
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=0), scope=r"\.2\.down_proj$", energy="none")
    export(adapter, spectra, edit, tmp_path / "out")
    after = decompose(open_adapter(tmp_path / "out"))
    for name, spectrum in after.items():
        if name == "experts.2.down_proj":
            assert spectrum.sigma.max() < 1e-6
        else:
            assert spectrum.sigma.tobytes() == spectra[name].sigma.tobytes()
    assert {spectrum.family for spectrum in after.values()} == {"gate_up_proj", "down_proj"}


def test_a_convolution_in_groups_is_refused_by_name(tmp_path):
    model = nn.Sequential(nn.Conv1d(4, 4, 3, groups=2))
    peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["0"])).save_pretrained(str(tmp_path))
    with pytest.raises(AdapterError, match="groups"):
        open_adapter(tmp_path)


class Attention(nn.Module):
    """torch's own attention, whose two projections PEFT adapts together."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attn(x, x, x, need_weights=False)[0]


def attention_saved(folder: Path) -> Path:
    torch.manual_seed(0)
    # a rank and an alpha by the name of the attention; a pattern for its output alone means nothing to PEFT
    patterns = {"rank_pattern": {"attn": 2, "out_proj": 1}, "alpha_pattern": {"attn": 5}}
    model = peft.get_peft_model(Attention(), peft.LoraConfig(r=4, target_modules=["attn"], **patterns))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(str(folder))
    return folder


def test_both_projections_of_torchs_own_attention_are_edited_as_peft_applies_them(tmp_path):
    adapter = open_adapter(attention_saved(tmp_path / "adapter"))
    assert sorted(adapter.modules) == ["attn", "attn.out_proj"]
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=1), scope="all")
    export(adapter, spectra, edit, tmp_path / "out")
    torch.manual_seed(0)
    base, x = Attention().double(), torch.randn(2, 5, 6, dtype=torch.float64)
    expected = copy.deepcopy(base)
    # PEFT adds the update of the output twice as it merges for a forward pass, and the note says so
    (note,) = [note for note in adapter.notes if "MultiheadAttention" in note]
    assert "twice" in note
    weights = {"attn": (expected.attn.in_proj_weight, 1), "attn.out_proj": (expected.attn.out_proj.weight, 2)}
    with torch.no_grad():
        for name, (weight, times) in weights.items():
            spectrum = spectra[name]
            weight += times * torch.from_numpy((spectrum.U * edit.modules[name].sigma_after) @ spectrum.V.T)
    found = peft.PeftModel.from_pretrained(base, str(tmp_path / "out")).double()(x)
    assert found.detach().numpy() == pytest.approx(expected(x).detach().numpy(), rel=1e-5, abs=1e-6)


def mixture() -> MixtralForCausalLM:
    """A mixture of experts as this version of transformers keeps it: stacked experts, and a router of its own class."""
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "num_local_experts": 4}
    torch.manual_seed(0)
    return MixtralForCausalLM(MixtralConfig(**sizes, **heads))


ROUTED = [
    ["gate_up_proj", "down_proj", "gate.weight"],
    ["experts.gate_up_proj", "experts.down_proj", "mlp.gate.weight"],
    ["experts.gate_up_proj", "down_proj", "gate.weight"],
    ["down_proj", "gate.weight"],
    ["gate.weight"],
]


@pytest.mark.parametrize("parameters", ROUTED, ids=str)
def test_an_adapted_router_beside_stacked_experts_is_told_from_them(parameters, tmp_path):
    config = peft.LoraConfig(r=3, lora_alpha=5, target_modules=["q_proj"], target_parameters=parameters)
    model = peft.get_peft_model(mixture(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(str(tmp_path / "adapter"))
    adapter = open_adapter(tmp_path / "adapter")
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=2), scope="all")
    export(adapter, spectra, edit, tmp_path / "out")
    reloaded = peft.PeftModel.from_pretrained(mixture(), str(tmp_path / "out"))
    expected = updates(reloaded)
    assert set(expected) == set(edit.modules)
    for name, before in spectra.items():
        wanted = (before.U * edit.modules[name].sigma_after) @ before.V.T
        assert expected[name] == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_parameters_whose_order_the_file_does_not_tell_are_refused(tmp_path):
    _, folder = saved(tmp_path, **KINDS["experts"])
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_parameters"] = ["experts.w1", "experts.w2"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterError, match="does not say which"):
        open_adapter(folder)


# pickled weights


def pickle(folder: Path, dtype: torch.dtype = torch.float32, **changes) -> Path:
    """The adapter in `folder` with its weights as the pickle that older versions of PEFT wrote."""
    weights = folder / "adapter_model.safetensors"
    state = {key: torch.from_numpy(value).to(dtype) for key, value in load_file(weights).items()}
    torch.save({**state, **changes}, folder / "adapter_model.bin")
    weights.unlink()
    return folder


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_pickled_adapter_opens_and_exports_as_safetensors_bit_for_bit(dtype, tmp_path):
    _, folder = saved(tmp_path / "adapter", **KINDS["linear"])
    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    expected = {
        key: value.astype(kind).tobytes() for key, value in load_file(folder / "adapter_model.safetensors").items()
    }
    adapter = open_adapter(pickle(folder, getattr(torch, dtype)))
    spectra = decompose(adapter)
    report = export(adapter, spectra, make_edit(spectra, make_policy("identity"), scope="all"), tmp_path / "out")
    assert report.edited == 0
    after = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert {key: value.tobytes() for key, value in after.items()} == expected


class Hostile:
    def __reduce__(self):
        return Path.write_text, (Path("hostile"), "ran")


@pytest.mark.parametrize("extra", [Hostile(), [1, 2], {"nested": torch.zeros(2)}, torch.zeros(1).expand(10**9)])
def test_a_pickle_of_anything_but_plain_tensors_is_refused_and_not_run(extra, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, folder = saved(tmp_path / "adapter", **KINDS["linear"])
    with pytest.raises(AdapterError):
        open_adapter(pickle(folder, extra=extra))
    assert not (tmp_path / "hostile").exists()


def test_a_compressed_pickle_is_refused_before_it_is_unpacked(tmp_path):
    _, folder = saved(tmp_path / "adapter", **KINDS["linear"])
    file = pickle(folder) / "adapter_model.bin"
    with zipfile.ZipFile(file) as plain:
        members = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    with pytest.raises(AdapterError, match="compressed"):
        open_adapter(folder)


@given(data=st.data())
def test_any_damage_to_a_pickle_is_read_or_refused(data, tmp_path_factory):
    _, folder = saved(tmp_path_factory.mktemp("adapter"), **KINDS["linear"])
    file = pickle(folder) / "adapter_model.bin"
    raw = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(raw[: data.draw(st.sampled_from([len(raw), len(raw) // 2]))]))
    with suppress(SurgeryError):
        open_adapter(folder)


# names

PATHS = [
    "model.layers.0.self_attn.q_proj",
    "model.layers.11.self_attn.q_proj",
    "model.layers.1.mlp.experts.0.down_proj",
    "layers.1.q_proj",
    "lm_head",
    "model.vision.layers.0.q_proj",
]
SETTINGS = [
    {"target_modules": ["q_proj"]},
    {"target_modules": ["self_attn.q_proj", "lm_head"]},
    {"target_modules": r".*layers\.\d+\.self_attn\.q_proj"},
    {"target_modules": r"q_proj|lm_head"},
    {"target_modules": ["q_proj"], "exclude_modules": ["vision.layers.0.q_proj"]},
    {"target_modules": ["q_proj"], "exclude_modules": r".*vision.*"},
    {"target_modules": ["q_proj", "lm_head"], "modules_to_save": ["lm_head"]},
    {"target_modules": ["q_proj", "down_proj"], "layers_to_transform": [1]},
    {"target_modules": ["q_proj"], "layers_to_transform": 0, "layers_pattern": "layers"},
    {"target_modules": ["q_proj"], "layers_to_transform": [0, 1], "layers_pattern": ["h", "layers"]},
    {"target_modules": [], "target_parameters": ["q_proj.weight"]},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_a_module_is_targeted_exactly_when_peft_says_so(settings, path):
    config = peft.LoraConfig(**settings)
    # PEFT answers with a match, a bool or an object that says the module is excluded, all as truth values
    found = check_target_module_exists(config, path)
    expected = bool(found) and type(found).__name__ != "_ExcludedModule"
    assert LoraRules(settings).targets(path) is expected


def test_factors_of_a_module_that_the_config_does_not_target_are_refused(lora_tensors, write_adapter):
    tensors = lora_tensors({"model.layers.0.q_proj": (6, 4, 5), "model.layers.0.k_proj": (6, 4, 5)})
    with pytest.raises(AdapterError, match=r"k_proj.*does not target"):
        open_adapter(write_adapter(tensors, target_modules=["q_proj"]))
    assert len(open_adapter(write_adapter(tensors, target_modules=["q_proj", "k_proj", "v_proj"])).modules) == 2
    assert len(open_adapter(write_adapter(tensors, target_modules="all-linear")).modules) == 2
    assert len(open_adapter(write_adapter(tensors, target_modules=None)).modules) == 2


def test_all_patterns_of_a_config_share_one_budget_of_time(lora_tensors, write_adapter):
    # each of the forty costs about a fifth of a second
    names = {f"model.layers.{i}.{'a' * 27}": (6, 4, 5) for i in range(8)}
    folder = write_adapter(lora_tensors(names), rank_pattern={f"(a|aa)+{i}b": 4 for i in range(5)})
    began = time.process_time()
    with pytest.raises(AdapterError, match="pattern"):
        open_adapter(folder)
    assert time.process_time() - began < 3


def test_an_edit_through_a_frozen_b_moves_sigma_as_far_as_one_through_a(tmp_path):
    # the mirror form on the same factors: only the init in the config differs
    spectra = {}
    for start in (True, "mica"):
        _, folder = saved(tmp_path / str(start), target_modules=["linear"])
        config = json.loads((folder / "adapter_config.json").read_text()) | {"init_lora_weights": start}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        adapter = open_adapter(folder)
        before = decompose(adapter)
        g = {"linear": np.array([[0.5, -1.0, 0.2], [0.1, -0.4, 0.3]])}
        where = Provenance(adapter.digest, "", "", Encoding(), ("linear",), "float32")
        edit = make_edit(before, GradDirection(), sensitivity=Sensitivity(g, np.zeros(2), where), scope="all")
        export(adapter, before, edit, tmp_path / f"{start}-out")
        spectra[start] = decompose(open_adapter(tmp_path / f"{start}-out"))["linear"].sigma
    assert spectra["mica"] == pytest.approx(spectra[True], rel=1e-6)
