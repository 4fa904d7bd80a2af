"""Adapters with added tokens: the embeddings are resized while they are attached, as PEFT has it on a resized base."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from surgery.adapter import open_adapter
from surgery.errors import BaseModelError
from surgery.model import LiveModel, LoadedBase, load_base
from surgery.spectra import decompose
from tests.helpers.models import LLAMA_TARGETS, VOCABULARY, relative, save_model, tiny_llama, tiny_tokenizer
from tests.helpers.rounding import logits_apart

GROWN, SHRUNK = VOCABULARY + 3, VOCABULARY - 4
WAYS: dict[str, dict[str, Any]] = {
    "resized alone": {},
    "saved modules": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "trained tokens": {"trainable_token_indices": [7, 11]},
    "LoRA on the input": {"target_modules": [*LLAMA_TARGETS, "embed_tokens"]},
    "LoRA on the output": {"target_modules": [*LLAMA_TARGETS, "lm_head"]},
}
# of the other table PEFT saves nothing, so its new rows are nobody's, or it is the updated one itself
UNKNOWN = {("LoRA on the input", GROWN, False), ("LoRA on the output", GROWN, False)}
CASES = [
    (way, rows, tied)
    for way in WAYS
    for rows in (GROWN, SHRUNK)
    for tied in (False, True)
    if not (tied and way == "LoRA on the output")
]


def _trained_on_resized(folder: Path, rows: int, **config: Any) -> Path:
    """An adapter with random values that PEFT trained on the base in `folder`, resized to `rows` tokens."""
    model = load_base(str(folder)).model
    model.resize_token_embeddings(rows)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": list(LLAMA_TARGETS), "task_type": "CAUSAL_LM", **config}
    adapted = get_peft_model(model, LoraConfig(base_model_name_or_path=str(folder), **settings))
    generator = torch.Generator().manual_seed(rows)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    out = folder.with_name(f"{folder.name}-adapter")
    adapted.save_pretrained(out)
    return out


def _logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def _base(folder: Path, tied: bool) -> LoadedBase:
    return load_base(str(save_model(tiny_llama(tie_word_embeddings=tied), folder)))


@pytest.mark.parametrize(("way", "rows", "tied"), [case for case in CASES if case not in UNKNOWN])
def test_a_resized_vocabulary_computes_what_peft_computes_on_the_resized_base(
    way: str, rows: int, tied: bool, tmp_path: Path
) -> None:
    base = _base(tmp_path / "base", tied)
    folder = _trained_on_resized(tmp_path / "base", rows, **WAYS[way])
    ids = torch.tensor([[1, 7, 11, 9, rows - 1, 4]])
    resized = copy.deepcopy(base.model)
    resized.resize_token_embeddings(rows)  # type: ignore[operator]
    theirs = PeftModel.from_pretrained(resized, folder).eval()
    adapter = open_adapter(folder)
    with LiveModel(base, adapter, decompose(adapter)) as live:
        assert live.vocabulary == rows == live.model.config.vocab_size
        assert relative(_logits(live.model, ids), _logits(theirs, ids)) <= logits_apart(resized)


@pytest.mark.parametrize(("rows", "tied"), [(GROWN, False), (GROWN, True), (SHRUNK, True)])
def test_a_shared_base_is_as_it_was_after_an_adapter_with_another_vocabulary(
    rows: int, tied: bool, tmp_path: Path
) -> None:
    base = _base(tmp_path / "base", tied)
    way = WAYS["LoRA on the input"] if tied else {}
    adapter = open_adapter(_trained_on_resized(tmp_path / "base", rows, **way))
    ids = torch.tensor([[1, 7, VOCABULARY - 1]])
    before, config = _logits(base.model, ids), base.model.config.to_dict()  # type: ignore[union-attr, operator]
    with LiveModel(base, adapter, decompose(adapter)):
        pass
    assert torch.equal(_logits(base.model, ids), before)
    assert base.model.config.to_dict() == config  # type: ignore[union-attr, operator]
    table, output = base.model.get_input_embeddings(), base.model.get_output_embeddings()  # type: ignore[operator]
    assert (table.weight is output.weight) == tied
    assert table.num_embeddings == output.out_features == VOCABULARY


@pytest.mark.parametrize(("way", "rows", "tied"), sorted(UNKNOWN))
def test_rows_that_no_file_holds_are_refused_and_the_base_is_left_alone(
    way: str, rows: int, tied: bool, tmp_path: Path
) -> None:
    base = _base(tmp_path / "base", tied)
    adapter = open_adapter(_trained_on_resized(tmp_path / "base", rows, **WAYS[way]))
    ids = torch.tensor([[1, 7]])
    before = _logits(base.model, ids)
    with pytest.raises(BaseModelError, match="resizes one embedding only"):
        LiveModel(base, adapter, decompose(adapter))
    assert torch.equal(_logits(base.model, ids), before)


def test_a_table_of_another_width_is_still_refused(tmp_path: Path) -> None:
    wide = save_model(tiny_llama(hidden_size=64), tmp_path / "wide")
    adapter = open_adapter(_trained_on_resized(wide, GROWN))
    with pytest.raises(BaseModelError, match="in the base model"):
        LiveModel(_base(tmp_path / "base", False), adapter, decompose(adapter))


def test_the_tokenizer_in_the_folder_reads_the_added_tokens(tmp_path: Path) -> None:
    from surgery.data import Encoding, Row

    base = _base(tmp_path / "base", False)
    folder = _trained_on_resized(tmp_path / "base", GROWN)
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(folder)
    adapter = open_adapter(folder)
    with LiveModel(base, adapter, decompose(adapter)) as live:
        row = Row("a<tool>b", "c")
        ours = live.encode([row], Encoding("plain")).examples[0].prompt_ids
        theirs = live.encode([row], Encoding("plain", tokenizer="base")).examples[0].prompt_ids
    assert ours == (1, 6, tokenizer.convert_tokens_to_ids("<tool>"), 7)
    assert len(theirs) == 1 + len("a<tool>b")
