"""What a file holds of a module beside B and A: DoRA's magnitudes, as PEFT writes and loads them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from surgery.adapter import open_adapter
from surgery.edits import make_edit
from surgery.export import edit_between, export
from surgery.policies import Rank
from surgery.spectra import decompose
from tests.surgery.adapter.conftest import refusal

KEY = "base_model.model.linear.lora_magnitude_vector"


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(7, 5)
        self.table = nn.Embedding(11, 6)
        self.conv = nn.Conv2d(3, 4, (2, 3))


@pytest.fixture
def folder(tmp_path) -> Path:
    torch.manual_seed(0)
    config = peft.LoraConfig(r=3, lora_alpha=7, use_dora=True, target_modules=["linear", "table", "conv"])
    model = peft.get_peft_model(Layers(), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def changed(folder: Path, *, drop: str = "", config: dict[str, Any] | None = None, **tensors: Any) -> Path:
    """The folder with tensors put in by key or left out, and settings changed."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **(config or {})}))
    held = {**load_file(folder / "adapter_model.safetensors"), **tensors}
    save_file({key: value for key, value in held.items() if key != drop}, folder / "adapter_model.safetensors")
    return folder


def loads(folder: Path) -> bool:
    """Whether PEFT puts the file's magnitudes of the linear layer into its place."""
    wanted = next(value for key, value in load_file(folder / "adapter_model.safetensors").items() if KEY in key)
    model = peft.PeftModel.from_pretrained(Layers(), str(folder))
    return np.array_equal(model.base_model.model.linear.lora_magnitude_vector["default"].weight.detach(), wanted)


def test_the_magnitudes_are_those_of_the_file_one_for_every_output(folder):
    adapter, tensors = open_adapter(folder), load_file(folder / "adapter_model.safetensors")
    assert adapter.kind == "DoRA"
    assert not adapter.extra
    for name, outputs in (("linear", 5), ("table", 6), ("conv", 4)):
        magnitude = adapter.modules[name].magnitude
        assert magnitude.shape == (outputs,)
        assert magnitude.tobytes() == tensors[f"base_model.model.{name}.lora_magnitude_vector"].tobytes()
    assert adapter.modules["linear"].parameters == 3 * (7 + 5) + 5


def test_a_note_says_what_the_directions_of_dora_are_of(folder):
    assert (
        sum(
            note.startswith("DoRA: σ and directions are of the update before")
            for note in open_adapter(folder).notes
        )
        == 1
    )


@pytest.mark.parametrize("spelling", ["", ".weight"])
def test_both_spellings_that_peft_loads_open(spelling, folder):
    magnitude = load_file(folder / "adapter_model.safetensors")[KEY]
    changed(folder, drop=KEY) if spelling else None
    changed(folder, **{KEY + spelling: magnitude})
    assert loads(folder)
    assert open_adapter(folder).modules["linear"].magnitude.tobytes() == magnitude.tobytes()


def test_an_export_keeps_the_magnitudes_and_is_an_edit_of_its_adapter(folder, tmp_path):
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=1), scope="all", energy="none")
    export(adapter, spectra, edit, tmp_path / "out")
    written = open_adapter(tmp_path / "out")
    for name, factors in adapter.modules.items():
        assert written.modules[name].magnitude.tobytes() == factors.magnitude.tobytes()
    found = edit_between(adapter, spectra, written)
    for name, module in edit.modules.items():
        np.testing.assert_allclose(found.edit.modules[name].sigma_after, module.sigma_after, atol=1e-6)
    other = open_adapter(changed(tmp_path / "out", **{KEY: 2 * adapter.modules["linear"].magnitude}))
    assert edit_between(adapter, spectra, other) is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"drop": KEY}, "module 'linear' has none, and use_dora is set"),
        ({"config": {"use_dora": False}}, "has a lora_magnitude_vector and use_dora is not set"),
        ({KEY: np.ones(7, "f4")}, "has shape (7,), not (5,)"),
        ({KEY: np.full(5, np.nan, "f4")}, "lora_magnitude_vector of module 'linear' is empty or holds NaN"),
        ({KEY: np.ones(5, "i4")}, "lora_magnitude_vector of module 'linear' is stored as int32"),
        ({KEY.replace("linear", "elsewhere"): np.ones(5, "f4")}, "without its factors"),
        ({KEY + ".weight": np.ones(5, "f4")}, "are the same factor"),
    ],
)
def test_magnitudes_that_do_not_fit_are_refused(damage, words, folder):
    assert words in refusal(changed(folder, **damage))


@pytest.mark.parametrize(
    "config",
    [
        {"lora_bias": True},
        {"target_parameters": ["linear.weight"]},
        {"alora_invocation_tokens": [1]},
        {"velora_config": {"num_groups": 1}},
        {"monteclora_config": {}},
        {"init_lora_weights": "mica"},
    ],
)
def test_what_peft_does_not_load_beside_dora_is_refused(config, folder):
    switch = next(iter(config)) if "mica" not in config.values() else "mica"
    config = {**config, **({"monteclora_config": {"num_samples": 1}} if "monteclora_config" in config else {})}
    right = (folder / "adapter_config.json").read_bytes()
    changed(folder, config=config)
    with pytest.raises((ValueError, TypeError, KeyError)):
        peft.PeftModel.from_pretrained(Layers(), str(folder))
    message = refusal(folder)
    assert f"use_dora is set beside {switch}" in message
    assert "restore the adapter_config.json" in message
    (folder / "adapter_config.json").write_bytes(right)
    assert open_adapter(folder).kind == "DoRA"
