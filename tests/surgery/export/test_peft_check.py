"""PEFT's own reading of an export agrees with the preview, and leaves the base model as it was."""

import json

import pytest
import torch

from surgery import decompose, export, make_edit, make_policy, open_adapter
from surgery.data import CalibrationPlan
from surgery.export import peft_agreement
from surgery.model import load_base
from tests.helpers.models import VOCABULARY, loaded_base, save_adapter, save_model, tiny_llama, tiny_tokenizer
from tests.helpers.rounding import logits_apart


@pytest.fixture
def opened(tmp_path):
    adapter = open_adapter(save_adapter(tiny_llama(), tmp_path / "adapter"))
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{n}+1=", "answer": str(n + 1)}) + "\n" for n in range(5)))
    return adapter, decompose(adapter), CalibrationPlan(str(rows))


def test_an_export_read_by_peft_agrees_with_the_preview(opened, tmp_path):
    adapter, spectra, plan = opened
    edit = make_edit(spectra, make_policy("random_index", {"amp": 2.0, "sup": 0.2}), scope="all")
    export(adapter, spectra, edit, tmp_path / "out")
    base = loaded_base(tiny_llama(), tiny_tokenizer())
    before = {name: weight.clone() for name, weight in base.model.named_parameters()}
    error, rows = peft_agreement(base, adapter, spectra, edit, tmp_path / "out", plan)
    assert rows == 5
    assert error < logits_apart(base.model)
    assert list(before) == [name for name, _ in base.model.named_parameters()]
    assert all(torch.equal(before[name], weight) for name, weight in base.model.named_parameters())


def test_an_export_of_another_edit_does_not_agree(opened, tmp_path):
    adapter, spectra, plan = opened
    export(adapter, spectra, make_edit(spectra, make_policy("identity"), scope="all"), tmp_path / "out")
    other = make_edit(spectra, make_policy("rank", {"keep": 1}), scope="all", energy="none")
    error, _ = peft_agreement(
        loaded_base(tiny_llama(), tiny_tokenizer()), adapter, spectra, other, tmp_path / "out", plan
    )
    assert error > 1e-3


def test_an_adapter_with_added_tokens_agrees_and_its_export_brings_the_tokenizer(tmp_path):
    folder = save_model(tiny_llama(), tmp_path / "base")
    resized = tiny_llama()
    resized.resize_token_embeddings(VOCABULARY + 3)
    resized.name_or_path = str(folder)
    source = save_adapter(resized, tmp_path / "adapter", base_model_name_or_path=str(folder))
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(source)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "a<tool>b", "answer": "c"}))
    adapter = open_adapter(source)
    spectra, base = decompose(adapter), load_base(str(folder))
    edit = make_edit(spectra, make_policy("random_index", {"amp": 2.0, "sup": 0.2}), scope="all")
    export(adapter, spectra, edit, tmp_path / "out")
    assert open_adapter(tmp_path / "out").tokenizer == adapter.tokenizer
    error, count = peft_agreement(base, adapter, spectra, edit, tmp_path / "out", CalibrationPlan(str(rows), 1))
    assert count == 1
    assert error < logits_apart(base.model)
    assert base.model.get_input_embeddings().num_embeddings == VOCABULARY
