"""A classifier's adapter found in a public repository, on a random base of its shape: what PEFT computes, row by row."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, GPT2Config, GPT2Model

from surgery.adapter import open_adapter
from surgery.data import Example
from surgery.edits import make_edit
from surgery.export import export
from surgery.model import BaseChoice, VariantEngine, attach
from surgery.policies import Rank
from surgery.spectra import decompose
from tests.helpers.classifiers import word_tokenizer
from tests.helpers.rounding import assert_losses

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "adapters"
SOURCE = REAL / "LMHan122__lightweight-fine-tuning-peft" / "gpt-lora"
LABELS = 6


@pytest.fixture
def base(tmp_path):
    """GPT-2's shape with few words and random weights: its own are not here."""
    torch.manual_seed(0)
    folder = tmp_path / "gpt2"
    config = GPT2Config(vocab_size=64, n_positions=32, bos_token_id=2, eos_token_id=3)
    GPT2Model(config).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.skipif(not REAL.is_dir(), reason="the adapters found in public repositories are not here")
def test_a_real_classifier_and_its_edit_score_in_one_batch_what_peft_scores(base, tmp_path):
    """Its config names no saved module, and its head lies in the file all the same."""
    adapter = open_adapter(SOURCE)
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=1), energy="l1", scope="all")
    rows = [Example(f"{n}", tuple(range(5 + n, 7 + 3 * n)), (n % LABELS,), "", task="SEQ_CLS") for n in range(3)]
    with attach(adapter, spectra, BaseChoice(str(base))) as live:
        assert len(live.base.labels) == LABELS
        found = VariantEngine(live, {"unedited": None, "edit": edit.sigma_after}).classify(rows)
    export(adapter, spectra, edit, tmp_path / "edited")
    for variant, folder in (("unedited", SOURCE), ("edit", tmp_path / "edited")):
        fresh = AutoModelForSequenceClassification.from_pretrained(base, num_labels=LABELS)
        peft = PeftModel.from_pretrained(fresh, folder).eval()
        with torch.no_grad():
            logits = [peft(input_ids=torch.tensor([row.prompt_ids])).logits[0].double() for row in rows]
        losses = [-float(each.log_softmax(-1)[row.answer_ids[0]]) for each, row in zip(logits, rows, strict=True)]
        assert_losses([each.loss for each in found[variant]], losses, peft)
        assert [each.labels for each in found[variant]] == [(int(each.argmax()),) for each in logits]
