"""Names of bases: what a quantised one was made of, and another one than the adapter names is told of."""

from dataclasses import replace

import pytest

from surgery.adapter import open_adapter
from surgery.model import BaseChoice, attach, unquantised
from surgery.spectra import decompose
from tests.helpers.models import save_adapter, save_model, tiny_llama


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("unsloth/Llama-3.2-1B-Instruct-bnb-4bit", "unsloth/Llama-3.2-1B-Instruct"),
        ("unsloth/Qwen3-8B-unsloth-bnb-4bit", "unsloth/Qwen3-8B"),
        ("unsloth/gemma-2-9b-it-4bit", "unsloth/gemma-2-9b-it"),
        ("someone/model-bnb-8bit", "someone/model"),
        ("someone/model_4bits", "someone/model"),
        ("/models/tiny-bnb-4bit", "/models/tiny"),
        ("someone/model", None),
        ("someone/4bit-model", None),
        ("someone/-4bit", None),
        ("", None),
    ],
)
def test_the_name_of_a_quantised_model_tells_its_original(name, original):
    assert unquantised(name) == original


@pytest.mark.parametrize(
    ("named", "folder", "is_told"),
    [
        ("HuggingFaceTB/SmolLM-135M", "SmolLM2-135M", True),
        ("Qwen/Qwen2.5-0.5B", "Qwen2.5-1.5B", True),
        ("HuggingFaceTB/SmolLM2-135M", "SmolLM2-135M", False),
        ("HuggingFaceTB/SmolLM2-135M", "smollm2_135m-instruct", False),
        ("unsloth/SmolLM2-135M-bnb-4bit", "SmolLM2-135M", False),
        ("C:\\\\models\\\\SmolLM2-135M", "SmolLM2-135M", False),
        ("HuggingFaceTB/SmolLM2-135M", "base", False),
        ("mine", "SmolLM2-135M", False),
    ],
)
def test_a_base_of_another_name_than_the_adapter_tells_is_said(named, folder, is_told, tmp_path):
    base = save_model(tiny_llama(), tmp_path / folder)
    adapter = open_adapter(save_adapter(tiny_llama(), tmp_path / "adapter"))
    adapter = replace(adapter, config={**adapter.config, "base_model_name_or_path": named})
    with attach(adapter, decompose(adapter), BaseChoice(str(base))) as live:
        told = [note for note in live.scoring_notes if "as its base model" in note]
    assert [f"names {named!r} as its base model, and this one is {str(base)!r}" in note for note in told] == (
        [True] if is_told else []
    )
