"""The file of an adapter's weights, whole or damaged."""

import json
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.numpy import load_file, save_file

from surgery.adapter import open_adapter, unpack_adapter
from surgery.edits import make_edit
from surgery.export import edit_between, export
from surgery.policies import Rank
from surgery.spectra import decompose
from tests.helpers.models import save_adapter, tiny_llama
from tests.surgery.adapter.conftest import KEY_A, KEY_B, O0, opened_or_refused, refusal

WEIGHTS = "adapter_model.safetensors"


def weights(header: Any, data: bytes = b"") -> bytes:
    """A safetensors file by hand: length of the header, header, data."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_factors_keep_the_bits_and_the_dtype_of_the_file(dtype, lora_tensors, write_adapter):
    tensors = lora_tensors({O0: (6, 4, 5)}, dtype)
    factors = open_adapter(write_adapter(tensors)).modules[O0]
    assert (factors.key_A, factors.key_B) == (KEY_A, KEY_B)
    assert factors.rank == 4
    for found, written in ((factors.A, tensors[KEY_A]), (factors.B, tensors[KEY_B])):
        assert found.dtype == np.dtype(dtype)
        assert found.tobytes() == written.tobytes()


def _header(**changes: Any) -> dict[str, Any]:
    return {KEY_A: {"dtype": "F32", "shape": [4, 5], "data_offsets": [0, 80], **changes}}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 7,
        b"<!DOCTYPE html><html>404</html>" * 20,
        struct.pack("<Q", 2**62) + b"{}",
        weights(b"{not json}"),
        weights(b"[]"),
        weights(b"\xff" * 16),
        weights({}),
        weights(_header()),
        weights(_header(), b"\0" * 79),
        weights(_header(), b"\0" * 100),
        weights(_header(shape=[4, 2**60]), b"\0" * 80),
        weights(_header(shape=[0, 2**60], data_offsets=[0, 0])),
        weights(_header(shape=[-4, 5]), b"\0" * 80),
        weights(_header(dtype="Q9"), b"\0" * 80),
        weights(_header(data_offsets=[80, 0]), b"\0" * 80),
        weights(_header(data_offsets=[8, 88]), b"\0" * 88),
    ],
    ids=lambda raw: f"{len(raw)}-bytes",
)
def test_a_corrupt_weights_file_is_refused(raw, write_adapter):
    refusal(write_adapter(raw_weights=raw))


@pytest.mark.parametrize("dtype", ["F8_E8M0", "F4", "F6_E2M3"])
def test_a_kind_of_number_that_is_not_known_is_refused_by_name(dtype, write_adapter):
    header = {"x": {"dtype": dtype, "shape": [8], "data_offsets": [0, {"F4": 4, "F6_E2M3": 6}.get(dtype, 8)]}}
    size = header["x"]["data_offsets"][1]
    message = refusal(write_adapter(raw_weights=weights(header, b"\0" * size)))
    assert dtype in message
    assert "float16" in message


@given(data=st.data())
def test_any_damage_to_the_weights_file_is_read_or_refused(data, lora_tensors, write_adapter):
    folder = write_adapter(lora_tensors({O0: (6, 4, 5)}))
    file = folder / "adapter_model.safetensors"
    raw = bytearray(file.read_bytes())
    # most of the interest lies in the header
    end = struct.unpack("<Q", raw[:8])[0] + 8
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, end + 20))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(raw[: data.draw(st.sampled_from([len(raw), len(raw) - 3, end + 5]))]))
    opened_or_refused(folder)


# eight-bit floats and shards


FLOAT8 = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}


@pytest.mark.parametrize("kind", FLOAT8)
def test_factors_in_eight_bit_floats_are_those_that_torch_reads(kind, lora_tensors, write_adapter):
    folder = write_adapter(lora_tensors({O0: (6, 4, 5)}))
    state = {key: tensor.to(FLOAT8[kind]) for key, tensor in safetensors.torch.load_file(folder / WEIGHTS).items()}
    safetensors.torch.save_file(state, folder / WEIGHTS)
    adapter = open_adapter(folder)
    for key, tensor in state.items():
        assert adapter.tensors[key].dtype.name == kind
        assert (adapter.tensors[key].astype(np.float64) == tensor.double().numpy()).all()


def all_values(kind: str) -> np.ndarray:
    """Every number that eight bits can say."""
    values = torch.arange(256, dtype=torch.uint8).view(FLOAT8[kind]).double().numpy()
    return values[np.isfinite(values)]


@pytest.mark.parametrize("kind", FLOAT8)
def test_an_edit_of_eight_bit_floats_is_rounded_once_to_them_and_loads_in_peft(kind, tmp_path):
    save_adapter(tiny_llama(), tmp_path / "in", targets=["q_proj", "down_proj"])
    plain = safetensors.torch.load_file(tmp_path / "in" / WEIGHTS)
    stored = {key: tensor.to(FLOAT8[kind]) for key, tensor in plain.items()}
    safetensors.torch.save_file(stored, tmp_path / "in" / WEIGHTS)
    adapter = open_adapter(tmp_path / "in")
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=2), scope="all")
    report = export(adapter, spectra, edit, tmp_path / "out")
    model = PeftModel.from_pretrained(tiny_llama(), str(tmp_path / "out"))
    layers = {n: m for n, m in model.base_model.model.named_modules() if isinstance(m, LoraLayer)}
    assert set(layers) == set(edit.modules)
    for name, layer in layers.items():
        spectrum, module, factors = spectra[name], edit.modules[name], adapter.modules[name]
        B = factors.B.astype(np.float64)
        exact = B + spectrum.U @ ((module.gains - 1)[:, None] * (spectrum.U.T @ B))
        found = layer.lora_B["default"].weight.detach().double().numpy()
        assert (np.abs(found - exact) == np.abs(exact[..., None] - all_values(kind)).min(axis=-1)).all()
    # each entry is off by at most half a unit of its own last place
    assert 0 < report.rounding < torch.finfo(FLOAT8[kind]).eps


def sharded(folder: Path, count: int) -> Path:
    """The adapter in shards with the index that transformers writes for them."""
    tensors = load_file(folder / WEIGHTS)
    names = [f"adapter_model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    places = {key: names[position % count] for position, key in enumerate(sorted(tensors))}
    for name in names:
        save_file({key: tensor for key, tensor in tensors.items() if places[key] == name}, folder / name)
    (folder / WEIGHTS).unlink()
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def test_shards_are_read_as_one_file_and_exported_as_the_one_that_peft_loads(tmp_path):
    whole = save_adapter(tiny_llama(), tmp_path / "in")
    expected = load_file(whole / WEIGHTS)
    adapter = open_adapter(sharded(whole, 3))
    assert {key: tensor.tobytes() for key, tensor in adapter.tensors.items()} == {
        key: tensor.tobytes() for key, tensor in expected.items()
    }
    assert any("3 shards" in change for change in adapter.changes)
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=1), scope="all")
    export(adapter, spectra, edit, tmp_path / "out")
    model = PeftModel.from_pretrained(tiny_llama(), str(tmp_path / "out"))
    assert sum(isinstance(layer, LoraLayer) for layer in model.modules()) == len(edit.modules)
    assert edit_between(adapter, spectra, open_adapter(tmp_path / "out")) is not None


def test_a_missing_shard_is_named_and_the_adapter_opens_once_it_is_there(tmp_path):
    folder = sharded(save_adapter(tiny_llama(), tmp_path / "in"), 3)
    second = folder / "adapter_model-00002-of-00003.safetensors"
    content = second.read_bytes()
    second.unlink()
    assert "number 2 is not there" in refusal(folder)
    second.write_bytes(content)
    digest = open_adapter(folder).digest
    second.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert open_adapter(folder).digest != digest


def test_shards_of_two_savings_are_refused(tmp_path):
    folder = sharded(save_adapter(tiny_llama(), tmp_path / "in"), 2)
    first = folder / "adapter_model-00001-of-00002.safetensors"
    (folder / "adapter_model-00001-of-00003.safetensors").write_bytes(first.read_bytes())
    assert "shards" in refusal(folder)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    folder = sharded(save_adapter(tiny_llama(), tmp_path / "in"), 2)
    first = folder / "adapter_model-00001-of-00002.safetensors"
    (folder / "adapter_model-00002-of-00002.safetensors").write_bytes(first.read_bytes())
    assert "two shards" in refusal(folder)


def test_no_name_in_an_index_is_followed(tmp_path):
    folder = sharded(save_adapter(tiny_llama(), tmp_path / "in"), 2)
    outside = tmp_path / "outside.safetensors"
    outside.write_bytes((folder / "adapter_model-00002-of-00002.safetensors").read_bytes())
    expected = open_adapter(folder).digest
    index = folder / f"{WEIGHTS}.index.json"
    index.write_text(
        json.dumps({"weight_map": dict.fromkeys(open_adapter(folder).tensors, "../outside.safetensors")})
    )
    assert open_adapter(folder).digest == expected
    (folder / "adapter_model-00002-of-00002.safetensors").unlink()
    assert "number 2" in refusal(folder)


def test_a_zip_of_a_sharded_adapter_opens(tmp_path):
    folder = sharded(save_adapter(tiny_llama(), tmp_path / "in"), 2)
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    unpacked = unpack_adapter(content.getvalue(), tmp_path / "uploads")
    assert open_adapter(unpacked).digest == open_adapter(folder).digest
