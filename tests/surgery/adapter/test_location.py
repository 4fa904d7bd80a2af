"""Where an adapter is: the folder behind a source, the source that opens it again, and what its files are."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from surgery.adapter import adapter_folder, open_adapter, refuse_changed
from surgery.errors import AdapterError

O0 = "model.layers.0.self_attn.o_proj"


@pytest.fixture
def folder(lora_tensors: Callable[..., Any], write_adapter: Callable[..., Path]) -> Path:
    return write_adapter(lora_tensors({O0: (6, 4, 5)}), target_modules=["o_proj"])


def test_a_file_of_an_adapter_is_in_its_folder_and_opens_again_as_the_folder(folder: Path) -> None:
    adapter = open_adapter(folder / "adapter_model.safetensors")
    assert adapter.source == str(folder)
    assert adapter_folder(adapter.source, ("recipe.yaml",)) == folder
    assert adapter.digest == open_adapter(folder).digest


def test_what_stands_after_a_hash_is_chosen_and_part_of_the_digest(folder: Path) -> None:
    whole, chosen = open_adapter(folder), open_adapter(f"{folder}#default")
    assert chosen.source == f"{folder}#default"
    assert adapter_folder(chosen.source) == folder
    assert chosen.digest != whole.digest
    for adapter in (whole, chosen):
        refuse_changed(adapter)
    (folder / "adapter_config.json").write_bytes((folder / "adapter_config.json").read_bytes() + b" ")
    for adapter in (whole, chosen):
        with pytest.raises(AdapterError, match="have changed since they were opened"):
            refuse_changed(adapter)


def test_a_folder_whose_own_name_has_a_hash_is_itself(folder: Path) -> None:
    named = folder.rename(folder.with_name("run#7"))
    adapter = open_adapter(named)
    assert adapter.source == str(named)
    assert adapter_folder(adapter.source) == named


@pytest.mark.parametrize("source", ["", "nowhere/at/all", "\0", "#", "nowhere#default"])
def test_what_is_nowhere_is_refused(source: str) -> None:
    with pytest.raises(AdapterError):
        open_adapter(source)
