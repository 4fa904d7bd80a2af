"""AdaLoRA's files against PEFT: what it loads opens, with PEFT's ΔW, and what it does not load is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from peft.tuners.adalora import AdaLoraLayer
from safetensors.numpy import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from surgery.adapter import Adapter, open_adapter
from surgery.edits import make_edit
from surgery.export import edit_between, export
from surgery.policies import Rank
from surgery.spectra import decompose
from tests.helpers.adalora import TRIPLETS, save_adalora
from tests.surgery.adapter.conftest import refusal


class Kinds(nn.Module):
    """A layer of each kind that AdaLoRA adapts; the second loses all its triplets, the last one keeps them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(7, 6)
        self.pruned = nn.Linear(6, 7)
        self.swapped = Conv1D(6, 8)
        self.conv = nn.Conv2d(3, 6, (2, 3))


KINDS = ["linear", "pruned", "swapped", "conv"]


@pytest.fixture
def folder(tmp_path) -> Path:
    return save_adalora(Kinds(), tmp_path / "adapter", KINDS)


def loaded(folder: Path) -> peft.PeftModel:
    return peft.PeftModel.from_pretrained(Kinds(), str(folder)).double()


def updates(folder: Path) -> dict[str, np.ndarray]:
    """PEFT's own dense ΔW of the file, out × in."""
    found = {}
    for name, layer in loaded(folder).base_model.model.named_modules():
        if isinstance(layer, AdaLoraLayer):
            delta = layer.get_delta_weight("default").detach().numpy()
            found[name] = delta.T if name == "swapped" else delta.reshape(len(delta), -1)
    return found


def change(folder: Path, **settings: Any) -> Path:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


def pattern(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "adapter_config.json").read_text())["rank_pattern"])


def product(adapter: Adapter, name: str) -> np.ndarray:
    factors = adapter.modules[name]
    return (
        factors.scaling
        * factors.B.astype(float)
        @ np.diag(factors.diagonal.astype(float))
        @ factors.A.astype(float)
    )


@pytest.mark.parametrize("alpha", [16, 0])
def test_the_update_is_pefts_own_with_its_scaling(alpha, tmp_path):
    folder = save_adalora(Kinds(), tmp_path / "adapter", KINDS, lora_alpha=alpha)
    adapter, expected = open_adapter(folder), updates(folder)
    assert adapter.kind == "AdaLoRA"
    assert set(adapter.modules) == {"linear", "swapped", "conv"}
    assert adapter.pruned == ("pruned",)
    assert not expected["pruned"].any()
    for name, spectrum in decompose(adapter).items():
        # of PEFT in float64; what it loads the file through is float32
        np.testing.assert_allclose(product(adapter, name), expected[name], rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(
            (spectrum.U * spectrum.sigma) @ spectrum.V.T, product(adapter, name), atol=1e-13
        )


def test_the_notes_say_what_was_pruned_and_what_the_directions_are_of(folder):
    notes = open_adapter(folder).notes
    assert "AdaLoRA pruned 1 module to rank 0, which change nothing" in notes
    assert any(note.startswith("AdaLoRA: σ and directions are of the whole update") for note in notes)


def test_an_exported_edit_is_loaded_by_peft_as_the_edit(folder, tmp_path):
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=1), scope="all", energy="none")
    report = export(adapter, spectra, edit, tmp_path / "out")
    assert report.rounding < 1e-6
    found = updates(tmp_path / "out")
    for name, spectrum in spectra.items():
        wanted = spectrum.sigma[0] * np.outer(spectrum.U[:, 0], spectrum.V[:, 0])
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-6)
    after = load_file(tmp_path / "out" / "adapter_model.safetensors")
    for key, tensor in adapter.tensors.items():
        edited = ".lora_B" in key and "pruned" not in key
        assert (after[key].tobytes() == tensor.tobytes()) != edited, key
    assert (tmp_path / "out/adapter_config.json").read_bytes() == (folder / "adapter_config.json").read_bytes()


def test_an_exported_edit_is_read_back_as_a_variant_of_its_adapter(folder, tmp_path):
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=1), scope="all", energy="l1")
    export(adapter, spectra, edit, tmp_path / "out")
    found = edit_between(adapter, spectra, open_adapter(tmp_path / "out"))
    assert found is not None
    assert found.energy == "l1"
    for name, module in edit.modules.items():
        np.testing.assert_allclose(found.edit.modules[name].sigma_after, module.sigma_after, atol=1e-5)


def test_another_diagonal_is_another_adapter(folder, tmp_path):
    adapter = open_adapter(folder)
    other = save_adalora(Kinds(), tmp_path / "other", KINDS)
    tensors = load_file(other / "adapter_model.safetensors")
    tensors["base_model.model.linear.lora_E"] = 2 * tensors["base_model.model.linear.lora_E"]
    save_file(tensors, other / "adapter_model.safetensors")
    assert edit_between(adapter, decompose(adapter), open_adapter(other)) is None


def marks_as_numbers(folder: Path) -> dict[str, Any]:
    return {"rank_pattern": {name: [int(mark) for mark in kept] for name, kept in pattern(folder).items()}}


# what PEFT does not load, what is said of it, and the change that the remedy asks for
UNLOADABLE: dict[str, tuple[Callable[[Path], dict[str, Any]], str, dict[str, Any]]] = {
    "numbers": (marks_as_numbers, "true and false", {}),
    "a rank": (lambda f: {"rank_pattern": {**pattern(f), "linear.lora_E": 3}}, "true and false", {}),
    "steps": (
        lambda f: {"total_step": None},
        "set total_step in adapter_config.json to 1 or more",
        {"total_step": 1},
    ),
    "schedule": (
        lambda f: {"tinit": 7, "tfinal": 4},
        "set total_step in adapter_config.json to 12 or more",
        {"total_step": 12},
    ),
}


@pytest.mark.parametrize("case", UNLOADABLE)
def test_what_peft_does_not_load_is_refused_and_opens_once_the_remedy_is_followed(case, folder):
    spoil, words, mend = UNLOADABLE[case]
    right = pattern(folder)
    change(folder, **spoil(folder))
    assert words in refusal(folder)
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        loaded(folder)
    change(folder, **(mend or {"rank_pattern": right}))
    assert set(open_adapter(folder).modules) == {"linear", "swapped", "conv"}
    loaded(folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"rank_pattern": {"elsewhere.lora_E": [True] * TRIPLETS}},
            "'elsewhere', of which the file has no factors",
        ),
        ({"rank_pattern": {"linear.lora_E": [True] * 3}}, "3 marks where init_r is 5"),
        ({"rank_pattern": {}}, "where the config says 5"),
        ({"rank_pattern": ["linear"]}, "no list of names"),
        ({"init_r": 4}, "5 marks where init_r is 4"),
        ({"init_r": None}, "init_r None"),
        ({"lora_alpha": "x"}, "lora_alpha 'x'"),
        ({"tinit": "x"}, "tinit 'x'"),
        ({"use_dora": True}, "no DoRA"),
        ({"target_parameters": ["linear.weight"]}, "no raw parameters"),
    ],
)
def test_a_config_of_adalora_that_does_not_fit_is_refused(settings, words, folder):
    assert words in refusal(change(folder, **settings))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t.pop("base_model.model.linear.lora_E"), "lora_A and lora_B without lora_E"),
        (lambda t: t.pop("base_model.model.linear.lora_B"), "without lora_B"),
        (
            lambda t: t.update({"base_model.model.linear.lora_E": np.ones((9, 1), "f4")}),
            "lora_E of module 'linear'",
        ),
        (
            lambda t: t.update({"base_model.model.linear.lora_E": t["base_model.model.linear.lora_E"] * np.nan}),
            "NaN",
        ),
    ],
)
def test_damaged_triplets_are_refused(spoil, words, folder):
    tensors = load_file(folder / "adapter_model.safetensors")
    spoil(tensors)
    save_file(tensors, folder / "adapter_model.safetensors")
    assert words in refusal(folder)


def test_an_adapter_of_which_nothing_is_left_is_refused(tmp_path):
    folder = save_adalora(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)), tmp_path / "a", "012")
    tensors = load_file(folder / "adapter_model.safetensors")
    for key, tensor in tensors.items():
        tensors[key] = tensor[:, :0] if ".lora_B" in key else tensor[:0]
    save_file(tensors, folder / "adapter_model.safetensors")
    change(folder, rank_pattern={f"{i}.lora_E": [False] * TRIPLETS for i in range(3)})
    assert "pruned every module" in refusal(folder)


def test_triplets_of_a_plain_lora_are_refused(folder):
    assert "has a lora_E and the config says LORA" in refusal(change(folder, peft_type="LORA", r=TRIPLETS))


def test_factors_without_a_diagonal_are_no_adalora(one, write_adapter):
    settings = {"peft_type": "ADALORA", "init_r": 4, "total_step": 9, "rank_pattern": None}
    assert "has no lora_E and the config says ADALORA" in refusal(write_adapter(one, **settings))
