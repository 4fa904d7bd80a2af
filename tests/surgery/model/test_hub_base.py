"""Bases on the hub: what is fetched of a repository and what is refused before a byte of its weights."""

import json
from pathlib import Path

import pytest

from surgery.errors import BaseModelError
from surgery.model import base_fingerprint, load_base, tokenizer_alone
from tests.helpers.models import save_model, tiny_llama
from tests.helpers.refusals import refusal


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """A base in parts, as a large one is saved, and what else lies in repositories."""
    folder = tmp_path_factory.mktemp("parts")
    save_model(tiny_llama(), folder)
    (folder / "model.safetensors").unlink()
    tiny_llama().save_pretrained(folder, max_shard_size="20KB")
    found = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert sum(name.endswith(".safetensors") for name in found) > 1
    return {
        **found,
        "modeling_own.py": b"raise SystemExit",
        "consolidated.safetensors": b"",
        "original/x.json": b"{}",
    }


def test_a_base_in_parts_is_the_same_as_from_its_folder(hub, files, tmp_path):
    hub.add("owner/base", files)
    for name, content in files.items():
        if "/" not in name and name != "consolidated.safetensors":
            (tmp_path / name).write_bytes(content)
    fetched = load_base("owner/base")
    assert fetched.fingerprint == load_base(str(tmp_path)).fingerprint == base_fingerprint("owner/base")
    assert fetched.location == "owner/base"
    read = {path.rpartition("/")[2] for path in hub.fetched()}
    assert read == set(files) - {"modeling_own.py", "consolidated.safetensors", "original/x.json"}


def test_a_tokenizer_is_read_without_the_weights(hub, files):
    hub.add("owner/base", files)
    assert tokenizer_alone("owner/base").get_vocab()
    assert not hub.fetched(".safetensors")


def test_another_commit_has_another_fingerprint(hub, files):
    repository = hub.add("owner/base", files)
    before = repository.refs["main"]
    first = load_base("owner/base").fingerprint
    config = json.dumps({**json.loads(files["config.json"]), "rms_norm_eps": 0.1}).encode()
    repository.commit({**files, "config.json": config})
    assert load_base("owner/base").fingerprint != first
    assert load_base(f"owner/base@{before}").fingerprint == first


def test_a_base_that_was_never_fetched_is_told_by_its_name(hub, files):
    hub.add("owner/base", files)
    assert base_fingerprint("owner/base") != base_fingerprint("owner/base", revision="x")
    assert hub.asked == []


@pytest.mark.parametrize(
    ("given", "words", "way"),
    [
        ({"adapter_config.json": b"{}"}, "is an adapter", "name the model it was trained on"),
        ({"a.Q4_K_M.gguf": b""}, "GGUF files", "download one, such as 'a.Q4_K_M.gguf'"),
        ({"README.md": b""}, "no config.json", "name a transformers model"),
        ({"config.json": b"{}", "pytorch_model.bin": b""}, "no weights in safetensors", "save_pretrained"),
        ({"config.json": b"{}", "model.safetensors.index.json": b"[]"}, "cannot be read", "another revision"),
        (
            {"config.json": b"{}", "model.safetensors.index.json": b'{"weight_map": {"a": "../x.safetensors"}}'},
            "lacks '../x.safetensors'",
            "another revision",
        ),
    ],
)
def test_a_repository_of_something_else_is_called_by_its_name(hub, given, words, way):
    hub.add("owner/other", given)
    message = refusal(BaseModelError, load_base, "owner/other")
    assert words in message
    assert way in message
    assert not hub.fetched("bin")


def test_a_base_with_code_of_its_own_is_never_fetched_with_it(hub, files, tmp_path: Path):
    config = {
        **json.loads(files["config.json"]),
        "model_type": "own",
        "auto_map": {"AutoConfig": "modeling_own.Own"},
    }
    hub.add("owner/code", {**files, "config.json": json.dumps(config).encode()})
    refusal(BaseModelError, load_base, "owner/code")
    assert not hub.fetched(".py")
