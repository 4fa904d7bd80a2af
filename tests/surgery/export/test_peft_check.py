"""PEFT's own reading of an export agrees with the preview, and leaves the base model as it was."""

import json

import pytest
import torch

from surgery import decompose, export, make_edit, make_policy, open_adapter
from surgery.data import CalibrationPlan
from surgery.export import peft_agreement
from tests.helpers.models import loaded_base, save_adapter, tiny_llama, tiny_tokenizer
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
    other = make_edit(spectra, make_policy("truncate", {"keep": 1}), scope="all", energy="none")
    error, _ = peft_agreement(
        loaded_base(tiny_llama(), tiny_tokenizer()), adapter, spectra, other, tmp_path / "out", plan
    )
    assert error > 1e-3
