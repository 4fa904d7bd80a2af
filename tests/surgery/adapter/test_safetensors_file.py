"""Reading a safetensors file: the bits, the digest of all bytes, and what is in memory already."""

import hashlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from surgery.adapter import WEIGHTS_FILE, open_adapter, read_weights, same_bytes

KINDS = (np.float32, np.float16, np.float64, ml_dtypes.bfloat16, np.int8)


@given(
    shapes=st.lists(
        st.tuples(st.sampled_from(KINDS), st.integers(0, 5), st.integers(0, 7)), min_size=1, max_size=6
    ),
    data=st.data(),
)
def test_a_file_gives_the_bits_that_were_written_and_the_digest_of_all_its_bytes(shapes, data, tmp_path_factory):
    file = tmp_path_factory.mktemp("file") / WEIGHTS_FILE
    generator = np.random.default_rng(0)
    written = {f"t{i}": generator.normal(size=shape).astype(kind) for i, (kind, *shape) in enumerate(shapes)}
    save_file(written, file, metadata={"format": "pt"})
    held = {key: written[key].copy() for key in written if data.draw(st.booleans())}
    for known in (None, held):
        found = read_weights(file.parent, "x", known)
        assert found.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert dict(found.metadata) == {"format": "pt"}
        assert set(found.tensors) == set(written)
        for key, tensor in found.tensors.items():
            assert same_bytes(tensor, written[key])
            assert (tensor is held.get(key)) == (known is not None and key in held)
            assert key in (known or {}) or not tensor.flags.writeable


@pytest.mark.parametrize("change", ["bit", "kind", "shape", "name"])
def test_what_is_held_is_never_taken_for_what_the_file_says_otherwise(change, tmp_path):
    one = np.arange(12, dtype=np.float32).reshape(3, 4)
    other = {
        "bit": {"one": np.nextafter(one, np.float32(99))},
        "kind": {"one": one.view(np.int32)},
        "shape": {"one": one.reshape(4, 3)},
        "name": {"two": one},
    }[change]
    save_file({"one": one}, tmp_path / WEIGHTS_FILE)
    found = read_weights(tmp_path, "x", other).tensors
    assert same_bytes(found["one"], one)
    assert all(found["one"] is not tensor for tensor in other.values())


def test_minus_zero_is_not_zero_and_one_nan_is_not_another():
    zero, minus = np.zeros(2, np.float32), -np.zeros(2, np.float32)
    quiet, signed = (np.array([bits], np.uint32).view(np.float32) for bits in (0x7FC00000, 0xFFC00000))
    assert not same_bytes(zero, minus)
    assert not same_bytes(quiet, signed)
    assert same_bytes(quiet, quiet.copy())
    assert same_bytes(np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.arange(6.0).reshape(2, 3))


def test_an_adapter_opened_beside_another_shares_its_memory_where_the_files_agree(lora_tensors, write_adapter):
    tensors = lora_tensors({"layers.0.o_proj": (24, 4, 16), "layers.1.o_proj": (24, 4, 16)})
    folder = Path(write_adapter(tensors))
    first = open_adapter(folder)
    changed = next(key for key in tensors if key.endswith("layers.1.o_proj.lora_B.weight"))
    held = {**first.tensors, changed: first.tensors[changed] * 2}
    second = open_adapter(folder, held=held)
    assert second.digest == first.digest == open_adapter(folder).digest
    for key, tensor in load_file(folder / WEIGHTS_FILE).items():
        assert same_bytes(second.tensors[key], tensor)
        assert np.shares_memory(second.tensors[key], first.tensors[key]) == (key != changed)
    assert read_weights(folder, "x", held).sha256 == read_weights(folder, "x").sha256
