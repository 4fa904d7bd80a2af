"""Which folder is meant by what a person names."""

import json
import shutil

import pytest

from surgery.adapter import adapter_source, open_adapter
from surgery.errors import AdapterError, ChoiceError
from tests.helpers.refusals import refusal


@pytest.fixture
def folder(one, write_adapter):
    return write_adapter(one)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_file_of_an_adapter_stands_for_the_folder_around_it(name, folder, monkeypatch):
    adapter = open_adapter(folder / name)
    assert adapter.source == str(folder)
    assert adapter.digest == open_adapter(folder).digest
    monkeypatch.chdir(folder)
    assert open_adapter(name).source == "."


def test_weights_that_peft_would_not_load_stand_for_nothing(folder):
    (folder / "adapter_model.bin").write_bytes(b"other weights")
    told = refusal(AdapterError, open_adapter, folder / "adapter_model.bin")
    assert "which PEFT loads instead" in told
    assert open_adapter(folder).modules


def test_other_names_are_left_as_they_are(tmp_path):
    (tmp_path / "recipe.yaml").write_text("x")
    for text in ("demo:kinship", str(tmp_path), str(tmp_path / "recipe.yaml"), "adapter_model.safetensors"):
        assert adapter_source(text) == text


def test_a_file_outside_the_folders_that_may_be_named_stands_for_nothing(folder, tmp_path, monkeypatch):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "adapter_config.json").symlink_to(folder / "adapter_config.json")
    monkeypatch.setenv("SURGERY_FOLDERS", str(folder))
    assert open_adapter(folder / "adapter_config.json").modules
    assert "outside" in refusal(AdapterError, open_adapter, tmp_path / "outside" / "adapter_config.json")


def test_a_folder_above_names_what_lies_below(folder, tmp_path):
    for name in ("checkpoint-20", "checkpoint-100"):
        shutil.copytree(folder, tmp_path / "runs" / name)
    with pytest.raises(ChoiceError) as caught:
        open_adapter(tmp_path / "runs")
    assert "but 2 below it: checkpoint-20, checkpoint-100" in caught.value.problem
    assert [open_adapter(choice).digest for choice in caught.value.choices] == [open_adapter(folder).digest] * 2
    with pytest.raises(ChoiceError) as caught:
        open_adapter(tmp_path / "runs" / "checkpont-20")
    assert "there is nothing at" in caught.value.problem
    assert len(caught.value.choices) == 2


def test_an_adapter_with_others_below_it_opens(folder):
    shutil.copytree(folder, folder / "second")
    assert open_adapter(folder).source == str(folder)


def test_a_config_without_weights_asks_for_them(write_adapter):
    assert "put the weights that were saved with its adapter_config.json" in refusal(
        AdapterError, open_adapter, write_adapter()
    )


def test_weights_without_a_config_say_what_the_config_has_to_be(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").unlink()
    told = refusal(AdapterError, open_adapter, folder)
    assert f"peft.LoraConfig(r={config['r']}, lora_alpha=ALPHA, target_modules=['o_proj'])" in told
