"""Zips of several adapters, and of what is none; hostile ones stand in tests/scenarios/test_hostile_input.py."""

import json
import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
from safetensors.numpy import save, save_file

from surgery.adapter import open_adapter, unpack_adapter
from surgery.errors import AdapterError, ChoiceError
from tests.helpers.refusals import refusal

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def zipped(files: dict[str, bytes]) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.fixture
def folders(one, write_adapter):
    """The files of two adapters that differ in rank's alpha, and of a third at the top, as a zip names them."""
    files = {"README.md": b"# three"}
    for number, at in enumerate(("runs/checkpoint-100/", "runs/checkpoint-20/", "")):
        folder = write_adapter(one, lora_alpha=number + 1)
        files |= {f"{at}{name}": (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    return files


def test_a_zip_of_several_adapters_is_a_choice_and_each_opens(folders, tmp_path):
    packed = zipped(folders)
    with pytest.raises(ChoiceError) as caught:
        unpack_adapter(packed, tmp_path)
    assert caught.value.choices == (".", "runs/checkpoint-20", "runs/checkpoint-100")
    assert "the zip holds 3 adapters: ., runs/checkpoint-20, runs/checkpoint-100" in caught.value.problem
    alphas = [
        open_adapter(unpack_adapter(packed, tmp_path, name)).config["lora_alpha"] for name in caught.value.choices
    ]
    assert alphas == [3, 2, 1]
    assert "choose" in refusal(AdapterError, unpack_adapter, packed, tmp_path, "runs")


def test_a_zip_of_one_adapter_in_a_folder_of_folders_needs_no_choice(folders, tmp_path):
    one = {f"a/b/{name}": content for name, content in folders.items() if "checkpoint-20" in name}
    assert open_adapter(unpack_adapter(zipped(one), tmp_path)).config["lora_alpha"] == 2


def test_an_mlx_adapter_is_unpacked_so_that_it_can_be_converted(tmp_path):
    weights = save({"model.layers.0.q.lora_a": np.ones((4, 2), np.float32)})
    packed = zipped({"m/adapter_config.json": json.dumps({"fine_tune_type": "lora"}).encode(), "m/adapters.safetensors": weights})  # fmt: skip
    folder = unpack_adapter(packed, tmp_path)
    assert f"surgery convert {folder} --out NEW_FOLDER" in refusal(AdapterError, open_adapter, folder)
    assert (folder / "adapters.safetensors").read_bytes() == weights


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pickle"])
def test_a_zip_without_an_adapter_says_what_it_holds(pickled, tmp_path):
    file = tmp_path / "style.bin"
    names = ("lora_unet_mid.lora_down.weight", "lora_unet_mid.alpha")
    if pickled:
        torch.save(dict.fromkeys(names, torch.ones(2, 2)), file)
    else:
        save_file(dict.fromkeys(names, np.ones((2, 2), np.float32)), file)
    packed = zipped({"x/style.bin": file.read_bytes(), "x/notes.txt": b"mine"})
    assert "'x/style.bin' is a kohya LoRA" in refusal(AdapterError, unpack_adapter, packed, tmp_path)
    assert "no adapter_config.json" in refusal(AdapterError, unpack_adapter, zipped({"x": b"y"}), tmp_path)
