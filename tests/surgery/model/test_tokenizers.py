"""The tokenizer of the adapter's folder where it has one, checked against transformers' own reading of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from surgery.adapter import TokenizerFiles, open_adapter
from surgery.data import Encoding, Row
from surgery.errors import AdapterError, BaseModelError, DataError
from surgery.model import LiveModel, load_base, tokenizer_alone, tokenizer_notes, tokenizer_of, tokenizers
from surgery.spectra import decompose
from tests.helpers.models import (
    VOCABULARY,
    loaded_base,
    save_adapter,
    save_gguf,
    save_model,
    tiny_llama,
    tiny_tokenizer,
)

CHAT, BASE = Encoding(), Encoding(tokenizer="base")
OTHER = "{% for m in messages %}{{ '<u>' if m['role'] == 'user' else '<a>' }}: {{ m['content'] }}</s>{% endfor %}"


def _adapter(folder: Path, tokenizer: Any = None, **files: str) -> Any:
    save_adapter(tiny_llama(), folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return open_adapter(folder)


def test_without_files_of_its_own_the_base_tokenizer_reads_the_rows(tmp_path: Path) -> None:
    base = tiny_tokenizer()
    assert tokenizer_of(_adapter(tmp_path / "a"), CHAT, base, vocabulary=VOCABULARY) is base
    assert tokenizer_notes(base, base) == ()


def test_the_folders_own_tokenizer_is_the_default_and_the_base_can_be_asked_for(tmp_path: Path) -> None:
    mine = tiny_tokenizer(append_eos=True)
    mine.chat_template = OTHER
    base = tiny_tokenizer()
    adapter = _adapter(tmp_path / "a", mine)
    own = tokenizer_of(adapter, CHAT, base, vocabulary=VOCABULARY)
    assert own.chat_template == OTHER
    assert own("abc").input_ids == mine("abc").input_ids
    assert tokenizer_of(adapter, BASE, base, vocabulary=VOCABULARY) is base
    notes = tokenizer_notes(own, base)
    assert any("other ids" in note for note in notes)
    assert any("another chat template" in note for note in notes)


def test_a_template_alone_goes_with_the_tokenizer_of_the_base(tmp_path: Path) -> None:
    base = tiny_tokenizer(chat=False)
    adapter = _adapter(tmp_path / "a", chat_template__jinja=OTHER)
    own = tokenizer_of(adapter, CHAT, base, vocabulary=VOCABULARY)
    assert own.chat_template == OTHER
    assert base.chat_template is None
    assert own("abc").input_ids == base("abc").input_ids
    assert tokenizer_notes(own, base) == (
        "the adapter's folder has a chat template, unlike the base; the adapter's is used",
    )


def test_rows_are_rendered_by_the_template_of_the_adapters_folder(tmp_path: Path) -> None:
    mine = tiny_tokenizer()
    mine.chat_template = OTHER
    adapter = _adapter(tmp_path / "a", mine)
    with LiveModel(loaded_base(tiny_llama()), adapter, decompose(adapter)) as live:
        example = live.encode([Row("ab", "cd")], CHAT).examples[0]
    whole = mine.apply_chat_template(
        [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cd"}], return_dict=False
    )
    assert [*example.prompt_ids, *example.answer_ids] == whole


def test_a_copy_of_the_bases_tokenizer_needs_no_word(tmp_path: Path) -> None:
    base = tiny_tokenizer()
    own = tokenizer_of(_adapter(tmp_path / "a", tiny_tokenizer()), CHAT, base, vocabulary=VOCABULARY)
    assert own is not base
    assert tokenizer_notes(own, base) == ()


def test_added_tokens_are_named(tmp_path: Path) -> None:
    mine = tiny_tokenizer()
    mine.add_tokens(["<x>", "<y>"])
    own = tokenizer_of(_adapter(tmp_path / "a", mine), CHAT, tiny_tokenizer(), vocabulary=VOCABULARY)
    assert tokenizer_notes(own, tiny_tokenizer()) == (
        "the adapter's tokenizer has 2 tokens ('<x>', '<y>') that the base's lacks",
    )


def test_tokens_that_the_model_has_no_row_for_are_refused(tmp_path: Path) -> None:
    mine = tiny_tokenizer()
    mine.add_tokens([f"<{i}>" for i in range(VOCABULARY)])
    adapter = _adapter(tmp_path / "a", mine)
    with pytest.raises(AdapterError, match=r"beyond the 64 of the model.*--tokenizer base"):
        tokenizer_of(adapter, CHAT, tiny_tokenizer(), vocabulary=VOCABULARY)
    # some bases ship such a token themselves, and a copy of their tokenizer is as good as they are
    assert tokenizer_of(adapter, CHAT, mine, vocabulary=VOCABULARY).get_vocab() == mine.get_vocab()


def test_a_row_with_a_token_beyond_the_model_is_refused(tmp_path: Path) -> None:
    base = tiny_tokenizer()
    base.add_tokens([f"<{i}>" for i in range(VOCABULARY)])
    adapter = _adapter(tmp_path / "a")
    with LiveModel(loaded_base(tiny_llama(), base), adapter, decompose(adapter)) as live:
        assert live.encode([Row("a", "b")], CHAT).examples
        with pytest.raises(DataError, match="'<63>'"):
            live.encode([Row("a<63>", "b")], CHAT)


@pytest.mark.parametrize("content", ["{", "{}", '{"version": "1.0", "model": {"type": "BPE", "vocab": 3}}'])
def test_a_damaged_tokenizer_is_refused_and_the_base_still_works(content: str, tmp_path: Path) -> None:
    adapter = _adapter(tmp_path / "a", tiny_tokenizer(), tokenizer__json=content)
    base = tiny_tokenizer()
    with pytest.raises(AdapterError, match="--tokenizer base"):
        tokenizer_of(adapter, CHAT, base, vocabulary=VOCABULARY)
    assert tokenizer_of(adapter, BASE, base, vocabulary=VOCABULARY) is base


def test_code_and_paths_in_the_settings_are_left_out(tmp_path: Path) -> None:
    other = tmp_path / "other"
    tiny_tokenizer(append_eos=True).save_pretrained(other)
    mine = tiny_tokenizer()
    folder = tmp_path / "a"
    adapter = _adapter(folder, mine)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {
        "auto_map": {"AutoTokenizer": ["evil.Slow", "evil.Fast"]},
        "tokenizer_file": str(other / "tokenizer.json"),
        "name_or_path": str(other),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    adapter = open_adapter(folder)
    own = tokenizer_of(adapter, CHAT, tiny_tokenizer(), vocabulary=VOCABULARY)
    assert own("abc").input_ids == mine("abc").input_ids


def test_a_tokenizer_that_could_not_be_read_is_refused_where_it_is_needed() -> None:
    class Opened:
        tokenizer = TokenizerFiles({}, "tokenizer.json: larger than 65,536 KiB")

    opened: Any = Opened()
    with pytest.raises(AdapterError, match=r"larger than 65,536 KiB.*--tokenizer base"):
        tokenizer_of(opened, CHAT, tiny_tokenizer(), vocabulary=VOCABULARY)


def test_the_tokenizer_of_a_base_is_loaded_without_its_weights(tmp_path: Path) -> None:
    folder = save_model(tiny_llama(), tmp_path / "base")
    loaded = load_base(str(folder))
    (folder / "model.safetensors").unlink()
    alone = tokenizer_alone(str(folder))
    assert alone("abc").input_ids == loaded.tokenizer("abc").input_ids
    assert tokenizers.limits_of(str(folder)) == (VOCABULARY, 256)


def test_the_tokenizer_of_a_gguf_file_is_that_of_its_model(tmp_path: Path) -> None:
    file = save_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    assert tokenizer_alone(str(file))("ab").input_ids == load_base(str(file)).tokenizer("ab").input_ids


def test_a_base_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    tiny_llama().save_pretrained(folder)
    with pytest.raises(BaseModelError, match="tokenizer"):
        tokenizer_alone(str(folder))
