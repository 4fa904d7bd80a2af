"""The model card tells the edit, and nothing of a file gets out of its code spans."""

import yaml

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan
from surgery.edits import EditPlan
from surgery.export import card
from surgery.model import BaseChoice
from surgery.policies import Truncate
from surgery.recipes import Recipe
from surgery.spectra import decompose


def card_of(small_adapter, source: str) -> str:
    adapter = open_adapter(small_adapter)
    plan = EditPlan(Truncate(keep=2), energy="none", manual={"model.layers.0.self_attn.o_proj": {0: 0.5}})
    recipe = Recipe(source, adapter.digest, BaseChoice("some/base"), CalibrationPlan("rows.jsonl"), plan)
    return card.model_card(adapter, recipe, plan.apply(decompose(adapter), None))


def test_the_card_counts_what_was_done(small_adapter):
    text = card_of(small_adapter, "my/adapter")
    assert yaml.safe_load(text.split("---")[1])["library_name"] == "peft"
    # four residual writers of rank 4, of which two each are silenced; a ninth is lowered by hand
    assert "4 modules, 16 singular values" in text
    assert "| 0 / 9 / 8 |" in text
    assert "| gains set by hand | 1 |" in text
    assert "| kind | LoRA |" in text
    assert "`my/adapter`" in text
    assert text == card_of(small_adapter, "my/adapter")


def test_a_hostile_name_stays_one_plain_cell(small_adapter):
    text = card_of(small_adapter, "x`|<script>\n# heading\u202e" + "y" * 500)
    (row,) = [line for line in text.splitlines() if line.startswith("| original adapter")]
    assert row.count("|") == 3
    assert "<" not in row
    assert "\n# heading" not in text
    assert len(row) < 300
