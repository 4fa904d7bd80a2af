"""The Adapter page converts what it refuses, shows the measured error and opens the result."""

import json
import time
from pathlib import Path

import numpy as np
import peft
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

from surgery.adapter import open_adapter
from tests.helpers.models import moved, save_model, tiny_llama

APP = Path(__file__).resolve().parents[2] / "app"
NAME = "model.layers.0.self_attn.q_proj"


def mlx_folder(folder: Path, **config) -> Path:
    rng = np.random.default_rng(0)
    folder.mkdir()
    parts = {"lora_a": rng.standard_normal((32, 2)), "lora_b": rng.standard_normal((2, 32))}
    save_file({f"{NAME}.{k}": v.astype(np.float32) for k, v in parts.items()}, folder / "adapters.safetensors")
    written = {
        "fine_tune_type": "lora",
        "lora_parameters": {"rank": 2, "scale": 5.0},
        "model": "some/base",
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(written))
    return folder


def asked(folder: Path) -> AppTest:
    """The page after `folder` was asked for and refused."""
    test = AppTest.from_file(str(APP / "main.py"), default_timeout=60).run()
    test.segmented_control(key="open-kind").set_value("Folder").run()
    test.text_input(key="open-path").set_value(str(folder))
    return clicked(test, "Open")


def clicked(test: AppTest, label: str) -> AppTest:
    (button,) = (each for each in test.button if each.label == label)
    return button.click().run()


def finished(test: AppTest) -> AppTest:
    deadline = time.monotonic() + 60
    while any("under way" in info.value for info in test.info):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        test.run()
    assert not test.exception
    return test


def labels(test: AppTest) -> set[str]:
    return {field.label for field in test.text_input}


def test_an_mlx_folder_is_converted_and_opened(tmp_path: Path, own_home: Path) -> None:
    test = asked(mlx_folder(tmp_path / "mlx"))
    assert any("MLX" in error.value for error in test.error)
    finished(clicked(test, "Convert and open"))
    out = own_home / "exports" / "mlx-lora"
    assert list(open_adapter(out).modules) == [NAME]
    (said,) = (message.value for message in test.success)
    assert "Converted from MLX" in said
    assert "1 updates are exactly those of the source" in said
    assert test.session_state["workspace"].adapter.source == str(out)
    assert "Convert and open" not in {button.label for button in test.button}


def test_another_type_asks_for_its_base_and_tells_the_error_of_logits(tmp_path: Path) -> None:
    base = save_model(tiny_llama(), tmp_path / "base")
    model = peft.get_peft_model(tiny_llama(), peft.LoHaConfig(r=2, init_weights=False, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path / "loha")
    test = asked(tmp_path / "loha")
    assert "Base model" in labels(test)
    finished(clicked(test, "Convert and open"))
    assert any("give" in error.value and "base" in error.value for error in test.error)
    test.text_input(key="convert-base").set_value(str(base))
    finished(clicked(test, "Convert and open"))
    (said,) = (message.value for message in test.success)
    assert "Converted from LOHA" in said
    assert "8 rows of random tokens" in said


def test_a_changed_base_asks_for_one_of_its_ways(tmp_path: Path) -> None:
    base = save_model(tiny_llama(), tmp_path / "base")
    config = peft.LoraConfig(r=2, init_lora_weights="pissa", target_modules=["q_proj"])
    moved(peft.get_peft_model(tiny_llama(), config)).save_pretrained(tmp_path / "pissa")
    test = asked(tmp_path / "pissa")
    assert {"Base model", "Initial adapter", "Residual base"} <= labels(test)
    test.text_input(key="convert-base").set_value(str(base))
    finished(clicked(test, "Convert and open"))
    assert any("Converted from pissa" in message.value for message in test.success)
    assert {f.rank for f in test.session_state["workspace"].adapter.modules.values()} == {4}


def test_a_config_that_leaves_the_scale_open_asks_for_it(tmp_path: Path) -> None:
    folder = mlx_folder(tmp_path / "mlx", lora_parameters={"rank": 2, "alpha": 8.0, "scale": 5.0})
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "fine_tune_type"}))
    test = asked(folder)
    finished(clicked(test, "Convert and open"))
    assert any("scale" in error.value for error in test.error)
    (scale,) = (field for field in test.number_input if field.label == "Scale")
    scale.set_value(20.0)
    finished(clicked(test, "Convert and open"))
    assert {f.scaling for f in test.session_state["workspace"].adapter.modules.values()} == {20.0}


def test_what_nothing_converts_offers_nothing(tmp_path: Path) -> None:
    test = asked(tmp_path)
    assert test.error
    assert "Convert and open" not in {button.label for button in test.button}
