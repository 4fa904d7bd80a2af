"""Adapters below a named folder and inside a zip are offered and open, one after the other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

from tests.helpers.attacks import zipped

MAIN = Path(__file__).resolve().parents[2] / "app" / "main.py"
O0 = "model.layers.0.self_attn.o_proj"


@pytest.fixture
def runs(tmp_path: Path, lora_tensors: Callable[..., Any], write_adapter: Callable[..., Path]) -> Path:
    """A folder of checkpoints that differ in alpha."""
    for step in (20, 100):
        folder = write_adapter(lora_tensors({O0: (6, 4, 5)}), lora_alpha=step)
        folder.rename(tmp_path / f"checkpoint-{step}")
    (tmp_path / "runs").mkdir()
    for step in (20, 100):
        (tmp_path / f"checkpoint-{step}").rename(tmp_path / "runs" / f"checkpoint-{step}")
    return tmp_path / "runs"


def asked(way: str) -> AppTest:
    test = AppTest.from_file(str(MAIN), default_timeout=60).run()
    test.session_state["open-kind"] = way
    return test.run()


def press(test: AppTest, label: str) -> AppTest:
    next(button for button in test.button if button.label == label).click().run()
    assert not test.exception
    return test


def alpha(test: AppTest) -> float:
    return test.session_state["workspace"].adapter.config["lora_alpha"]


def test_adapters_below_a_named_folder_are_offered(runs: Path) -> None:
    test = asked("Folder")
    test.text_input(key="open-path").set_value(str(runs))
    press(test, "Open")
    assert not test.error
    assert test.session_state["workspace"].adapter.source == "demo:kinship"
    choice = test.selectbox(key="open-found-choice")
    assert choice.options == ["runs/checkpoint-20", "runs/checkpoint-100"]
    assert alpha(press(test, "Open this one")) == 100  # the last one is proposed
    # the choice stays, so that another can be looked at
    test.selectbox(key="open-found-choice").select_index(0)
    assert alpha(press(test, "Open this one")) == 20
    # another way of opening, or another folder, ends it
    test.text_input(key="open-path").set_value(str(runs / "checkpoint-100" / "adapter_model.safetensors"))
    assert alpha(press(test, "Open")) == 100
    assert not [box for box in test.selectbox if box.key == "open-found-choice"]


def test_adapters_in_a_zip_are_offered(runs: Path, own_home: Path) -> None:
    files = {str(file.relative_to(runs.parent)): file.read_bytes() for file in runs.rglob("*") if file.is_file()}
    test = asked("Upload a zip")
    test.file_uploader(key="open-zip").set_value(("runs.zip", zipped(files), "application/zip"))
    press(test, "Open")
    assert not test.error
    assert test.selectbox(key="open-found-choice").options == ["runs/checkpoint-20", "runs/checkpoint-100"]
    test.selectbox(key="open-found-choice").select_index(0)
    assert alpha(press(test, "Open this one")) == 20
    assert Path(test.session_state["workspace"].adapter.source).parent == own_home / "uploads"
    # what was found in a zip is not offered for a folder
    test.session_state["open-kind"] = "Folder"
    assert not [box for box in test.run().selectbox if box.key == "open-found-choice"]


def test_what_is_no_adapter_is_called_by_its_name(tmp_path: Path) -> None:
    kohya = {f"lora_unet_mid.{part}": np.ones((2, 2), np.float32) for part in ("lora_down.weight", "alpha")}
    save_file(kohya, tmp_path / "style.safetensors")
    (tmp_path / "pointer").mkdir()
    (tmp_path / "pointer" / "adapter_config.json").write_text(
        "version https://git-lfs.github.com/spec/v1\noid x\n"
    )
    test = asked("Folder")
    for source, told in ((tmp_path / "style.safetensors", "a kohya LoRA"), (tmp_path / "pointer", "git lfs pull")):
        test.text_input(key="open-path").set_value(str(source))
        (message,) = press(test, "Open").error
        assert told in message.value
    test = asked("Upload a zip")
    packed = zipped({"my/style.safetensors": (tmp_path / "style.safetensors").read_bytes()})
    test.file_uploader(key="open-zip").set_value(("style.zip", packed, "application/zip"))
    (message,) = press(test, "Open").error
    assert "a kohya LoRA" in message.value


def two_in_one(lora_tensors: Callable[..., Any], write_adapter: Callable[..., Path]) -> Path:
    """Two adapters of one model in one file."""
    tensors = lora_tensors({O0: (6, 4, 5)})
    names = {"sft": 1, "dpo": 3}
    both = {
        key.replace(".weight", f".{name}.weight"): times * tensor
        for name, times in names.items()
        for key, tensor in tensors.items()
    }
    return write_adapter(both, target_modules=["o_proj"])


def test_several_adapters_of_one_file_are_offered_and_open_one_after_the_other(
    lora_tensors: Callable[..., Any], write_adapter: Callable[..., Path]
) -> None:
    folder = two_in_one(lora_tensors, write_adapter)
    test = asked("Folder")
    test.text_input(key="open-path").set_value(str(folder))
    press(test, "Open")
    assert not test.error
    press(test, "Open this one")
    first = test.session_state["workspace"].adapter
    assert first.source == f"{folder}#sft"
    test.selectbox(key="open-found-choice").select_index(0)
    press(test, "Open this one")
    second = test.session_state["workspace"].adapter
    assert second.source == f"{folder}#dpo"
    assert (second.modules[O0].B == 3 * first.modules[O0].B).all()


def test_several_adapters_of_one_file_in_a_zip_open_as_those_of_a_folder(
    lora_tensors: Callable[..., Any], write_adapter: Callable[..., Path], own_home: Path
) -> None:
    folder = two_in_one(lora_tensors, write_adapter)
    packed = zipped({file.name: file.read_bytes() for file in folder.iterdir()})
    test = asked("Upload a zip")
    test.file_uploader(key="open-zip").set_value(("a.zip", packed, "application/zip"))
    press(test, "Open")
    press(test, "Open this one")
    assert test.session_state["workspace"].adapter.source.endswith("#sft")
    assert test.session_state["workspace"].adapter.source.startswith(str(own_home))
