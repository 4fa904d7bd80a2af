"""What lies beside an adapter of a tokenizer is carried along as bytes."""

import json
import zipfile
from pathlib import Path

import pytest

from surgery.adapter import TOKENIZER_FILES, TokenizerFiles, open_adapter, unpack_adapter
from surgery.errors import AdapterError
from tests.helpers.models import save_adapter, tiny_llama, tiny_tokenizer


def test_an_adapter_holds_the_tokenizer_that_training_saved_beside_it(tmp_path: Path) -> None:
    folder = save_adapter(tiny_llama(), tmp_path / "adapter")
    plain = open_adapter(folder)
    tiny_tokenizer().save_pretrained(folder)
    found = open_adapter(folder)
    assert not plain.tokenizer.given
    assert found.tokenizer.has_vocabulary
    assert found.tokenizer.contents["tokenizer.json"] == (folder / "tokenizer.json").read_bytes()
    assert found.digest == plain.digest
    assert any("tokenizer of its own" in note for note in found.notes)


def test_other_files_of_the_folder_are_not_read(tmp_path: Path) -> None:
    folder = save_adapter(tiny_llama(), tmp_path / "adapter")
    for name in ("tokenization_evil.py", "config.json", "tokenizer.pkl", "optimizer.pt"):
        (folder / name).write_text("x")
    (folder / "vocab.txt").write_text("a")
    assert set(open_adapter(folder).tokenizer.contents) == {"vocab.txt"} <= set(TOKENIZER_FILES)


def test_a_file_beyond_the_bound_is_named_and_the_adapter_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surgery.adapter.tokenizer_files._MOST_BYTES", 1000)
    folder = save_adapter(tiny_llama(), tmp_path / "adapter")
    (folder / "tokenizer.json").write_bytes(b" " * 1001)
    adapter = open_adapter(folder)
    assert adapter.tokenizer.unread.startswith("tokenizer.json")
    assert any("tokenizer.json" in note for note in adapter.notes)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("chat_template.jinja", "T"),
        ("chat_template.json", json.dumps({"chat_template": "T"})),
        ("tokenizer_config.json", json.dumps({"chat_template": "T"})),
        (
            "tokenizer_config.json",
            json.dumps(
                {"chat_template": [{"name": "tools", "template": "no"}, {"name": "default", "template": "T"}]}
            ),
        ),
    ],
)
def test_a_chat_template_is_found_wherever_it_is_kept(name: str, text: str) -> None:
    files = TokenizerFiles({name: text.encode()})
    assert files.chat_template == "T"
    assert files.given
    assert not files.has_vocabulary


def test_settings_without_a_template_or_a_vocabulary_are_no_tokenizer() -> None:
    assert not TokenizerFiles({"tokenizer_config.json": b'{"eos_token": "</s>"}'}).given


@pytest.mark.parametrize("text", [b"{", b'{"chat_template": [{}]}', b"\xff", b'{"chat_template": [1]}'])
def test_a_template_that_cannot_be_read_is_refused_with_the_way_out(text: bytes) -> None:
    with pytest.raises(AdapterError, match="--tokenizer base"):
        _ = TokenizerFiles({"tokenizer_config.json": text}).chat_template


def test_an_upload_keeps_the_tokenizer_and_nothing_else(tmp_path: Path) -> None:
    folder = save_adapter(tiny_llama(), tmp_path / "adapter")
    tiny_tokenizer().save_pretrained(folder)
    (folder / "evil.py").write_text("x")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, f"adapter/{file.name}")
    unpacked = unpack_adapter(tmp_path / "a.zip", tmp_path / "uploads")
    assert open_adapter(unpacked).tokenizer == open_adapter(folder).tokenizer
    assert not (unpacked / "evil.py").exists()
