"""What files say of themselves."""

import struct
import zipfile

import gguf
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from surgery.adapter import headers

KEYS = ("base_model.model.a.lora_A.weight", "base_model.model.a.lora_B.weight")
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"


def test_names_and_shapes_of_safetensors_are_told(tmp_path):
    file = tmp_path / "any name"
    save_file(
        {KEYS[0]: np.zeros((4, 6), np.float32), KEYS[1]: np.zeros((5, 4), np.float16)}, file, {"format": "pt"}
    )
    header = headers.read_header(file)
    assert (header.kind, dict(header.tensors)) == (headers.SAFETENSORS, {KEYS[0]: (4, 6), KEYS[1]: (5, 4)})


@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_names_in_a_pickle_are_told_and_nothing_is_built_from_it(old, tmp_path):
    file = tmp_path / "x.bin"
    torch.save(dict.fromkeys(KEYS, torch.zeros(2, 2)), file, _use_new_zipfile_serialization=not old)
    header = headers.read_header(file)
    assert header.kind == headers.PICKLE
    assert set(KEYS) <= set(header.tensors)
    assert set(header.tensors.values()) == {None}


@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_a_gguf_file_says_its_type_and_architecture(kind, tmp_path):
    file = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_type(kind)
    writer.add_name("of a test")
    writer.add_token_list(["a", "b"])
    for write in ("write_header_to_file", "write_kv_data_to_file", "close"):
        getattr(writer, write)()
    header = headers.read_header(file)
    assert header.kind == headers.GGUF
    assert header.about["general.type"] == kind
    assert header.about["general.architecture"] == "llama"


def test_what_was_not_fetched_or_is_a_page_or_an_archive_is_told(tmp_path):
    for content, kind in (
        (LFS, headers.POINTER),
        (b"\n<!DOCTYPE html><html>", headers.PAGE),
        (b"<html lang=en>", headers.PAGE),
    ):
        (tmp_path / "x").write_bytes(content)
        assert headers.read_header(tmp_path / "x").kind == kind
        assert headers.stands_for(tmp_path / "x") == kind
    with zipfile.ZipFile(tmp_path / "x", "w") as archive:
        archive.writestr("a/adapter_config.json", "{}")
    assert headers.read_header(tmp_path / "x").kind == headers.ZIP
    assert not headers.stands_for(tmp_path / "x")
    assert not headers.stands_for(tmp_path / "nothing")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 40) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 9) + b'{"a":[1]}',
        struct.pack("<Q", 20_000) + b'{"a":' + b"[" * 19_995,
        struct.pack("<Q", 25) + b'{"a":{"shape":[1e999,2]}}',
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_what_is_damaged_is_told_as_nothing_known(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    header = headers.read_header(tmp_path / "x")
    assert (header.kind, dict(header.tensors)) == (headers.OTHER, {})


@pytest.mark.parametrize("content", [b"GGUF", b"GGUF" + b"\xff" * 60, b"GGUF" + bytes(12) + b"\x05" + bytes(30)])
def test_a_gguf_file_that_claims_much_says_nothing(content, tmp_path):
    (tmp_path / "x").write_bytes(content)
    header = headers.read_header(tmp_path / "x")
    assert header.kind == headers.GGUF
    assert set(header.about) <= {""}
