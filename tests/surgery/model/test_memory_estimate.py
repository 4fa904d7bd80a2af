"""Estimates of memory from the headers of a base's files."""

import pytest

from surgery.model import estimate_memory
from tests.helpers.models import save_gguf, tiny_llama
from tests.surgery.model.conftest import refused_base


def test_memory_is_estimated_from_headers_alone(saved_base):
    parameters = sum(parameter.numel() for parameter in tiny_llama().parameters())
    single = estimate_memory(str(saved_base))
    assert single.parameters == parameters
    assert single.weights == 4 * parameters
    assert single.total == single.weights + single.working
    assert estimate_memory(str(saved_base), dtype="bfloat16").weights == 2 * parameters
    assert estimate_memory(str(saved_base), tokens=100).working < single.working


def test_memory_of_a_sharded_base_counts_every_shard(tmp_path):
    model = tiny_llama()
    model.save_pretrained(tmp_path / "base", max_shard_size="50KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert estimate_memory(str(tmp_path / "base")).parameters == expected


def test_memory_of_a_gguf_file_is_estimated_without_converting_it(tmp_path, saved_base):
    file = save_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    assert estimate_memory(str(file)) == estimate_memory(str(saved_base))
    assert not (tmp_path / "home" / "bases").exists()


def test_memory_in_an_unknown_dtype_is_refused(saved_base):
    assert "'int4'" in refused_base(saved_base, function=estimate_memory, dtype="int4")


def test_memory_of_a_hub_id_is_unknown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert estimate_memory("owner/name") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.safetensors", b"damaged"), ("config.json", b"{"), ("tiny.gguf", b"GGUF"), ("tiny.gguf", b"")],
)
def test_memory_of_a_damaged_base_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    refused_base(folder / name if name.endswith(".gguf") else folder, function=estimate_memory)
