"""The file of an adapter's weights, whole or damaged."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.adapter import open_adapter
from tests.surgery.adapter.conftest import KEY_A, KEY_B, O0, opened_or_refused, refusal


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


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3"])
def test_a_dtype_that_numpy_lacks_is_refused(dtype, write_adapter):
    header = {"x": {"dtype": dtype, "shape": [8], "data_offsets": [0, {"F4": 4, "F6_E2M3": 6}.get(dtype, 8)]}}
    size = header["x"]["data_offsets"][1]
    assert "adapter_model.safetensors" in refusal(write_adapter(raw_weights=weights(header, b"\0" * size)))


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
