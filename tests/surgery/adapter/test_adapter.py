"""Opening an adapter: what is read, which scaling each module has, and what is refused."""

import shutil
from typing import Any

import numpy as np
import pytest

from surgery.adapter import open_adapter
from surgery.spectra import decompose
from tests.surgery.adapter.conftest import KEY_A, KEY_B, O0, refusal


def test_modules_layers_families_and_base_are_read_from_the_folder(small_adapter):
    adapter = open_adapter(small_adapter)
    assert list(adapter.modules) == [
        "model.layers.0.mlp.down_proj",
        "model.layers.0.self_attn.o_proj",
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
        "model.layers.1.self_attn.o_proj",
        "model.layers.1.self_attn.q_proj",
    ]
    assert adapter.layers == (0, 1)
    assert adapter.families == ("down_proj", "o_proj", "q_proj")
    assert adapter.base_name == "some/base"
    assert adapter.metadata == {"format": "pt"}
    assert adapter.extra == ()
    assert adapter.notes == ()
    assert adapter.config_bytes == (small_adapter / "adapter_config.json").read_bytes()


def test_the_digest_belongs_to_the_content_and_not_to_the_place(small_adapter, tmp_path):
    digest = open_adapter(small_adapter).digest
    copy = tmp_path / "copy"
    shutil.copytree(small_adapter, copy)
    assert open_adapter(copy).digest == digest
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        changed = tmp_path / name
        shutil.copytree(small_adapter, changed)
        file = changed / name
        # a space after the JSON, and the lowest mantissa bit of one weight: the same adapter to the eye
        data = file.read_bytes()
        file.write_bytes(data + b" " if name.endswith("json") else data[:-4] + bytes([data[-4] ^ 1]) + data[-3:])
        assert open_adapter(changed).digest != digest


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ({"use_rslora": True}, "rank-stabilised"),
        ({"rank_pattern": {"q_proj": 2}}, "ranks differ"),
    ],
)
def test_unusual_adapters_carry_a_note(config, note, lora_tensors, write_adapter):
    rank = 2 if "rank_pattern" in config else 4
    tensors = lora_tensors({O0: (6, 4, 5), "model.layers.0.self_attn.q_proj": (6, rank, 5)})
    assert any(note in text for text in open_adapter(write_adapter(tensors, **config)).notes)


def test_an_all_zero_factor_is_opened_with_a_note(one, write_adapter):
    one[KEY_B][:] = 0
    adapter = open_adapter(write_adapter(one))
    assert any("all-zero" in note for note in adapter.notes)
    assert not decompose(adapter)[O0].sigma.any()


def test_a_fresh_adapter_opens_whatever_its_plain_initialisation(one, write_adapter):
    for start in (True, False, "gaussian", "orthogonal", "eva"):
        assert open_adapter(write_adapter(one, init_lora_weights=start)).notes == ()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", [KEY_A, KEY_B])
def test_factors_that_hold_nan_or_infinity_are_refused(key, value, dtype, lora_tensors, write_adapter):
    tensors = lora_tensors({O0: (6, 4, 5)}, dtype)
    tensors[key][1, 2] = value
    message = refusal(write_adapter(tensors))
    assert O0 in message
    assert "NaN or infinity" in message


@pytest.mark.parametrize("dtype", ["int8", "int64", "bool", "complex64"])
def test_factors_that_are_no_floating_point_numbers_are_refused(dtype, lora_tensors, write_adapter):
    assert O0 in refusal(write_adapter(lora_tensors({O0: (6, 4, 5)}, dtype, scale=3)))


def test_empty_factors_are_refused(one, write_adapter):
    one[KEY_B] = np.zeros((0, 4), np.float32)
    assert O0 in refusal(write_adapter(one))


def test_a_folder_that_is_missing_is_refused(tmp_path):
    assert "no folder" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize("source", ["x" * 5000, "x\0y", "~no-such-user-here/adapter", "", "\n"])
def test_a_path_that_cannot_exist_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refusal(source)


def test_a_demo_that_does_not_exist_is_refused():
    for name in ("demo:", "demo:nothing", "demo:../surgery", "demo:."):
        assert "demo" in refusal(name)


def test_missing_files_are_named(tmp_path, one, write_adapter):
    assert "adapter_config.json" in refusal(tmp_path)
    assert "adapter_model.safetensors" in refusal(write_adapter())
    pickled = write_adapter()
    (pickled / "adapter_model.bin").write_bytes(b"\x80\x02cos\nsystem\n.")
    message = refusal(pickled)
    assert "adapter_model.bin" in message
    assert "as safetensors" in message


@pytest.mark.parametrize("reader", ["pathlib.Path.open", "surgery.adapter.safetensors_file.safe_open"])
def test_files_that_may_not_be_read_are_refused(reader, one, write_adapter, monkeypatch):
    folder = write_adapter(one)

    def denied(*_args: Any, **_options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reader, denied)
    refusal(folder)
