"""The model card tells the edit, and nothing of a file gets out of its code spans."""

import yaml

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan
from surgery.edits import EditPlan, LayerGroups
from surgery.export import PeftLoading, card
from surgery.model import BaseChoice
from surgery.policies import Rank
from surgery.recipes import Recipe
from surgery.spectra import decompose

LOADED = PeftLoading(6, 6, "some/base (LlamaForCausalLM)")


def card_of(small_adapter, source: str, loading: PeftLoading = LOADED, **rules) -> str:
    adapter = open_adapter(small_adapter)
    manual = {"model.layers.0.self_attn.o_proj": {0: 0.5}}
    plan = EditPlan(Rank(keep=2), energy="none", manual=manual, **rules)
    recipe = Recipe(source, adapter.digest, BaseChoice("some/base"), CalibrationPlan("rows.jsonl"), plan)
    return card.model_card(adapter, recipe, plan.apply(decompose(adapter), None), loading)


def test_the_card_counts_what_was_done(small_adapter):
    text = card_of(small_adapter, "my/adapter")
    assert yaml.safe_load(text.split("---")[1])["library_name"] == "peft"
    # four residual writers of rank 4, of which two each are silenced; a ninth is lowered by hand
    assert "4 modules, 16 singular values" in text
    assert "| 0 / 9 / 8 |" in text
    assert "| gains set by hand | 1 |" in text
    assert "| kind | LoRA |" in text
    assert "`my/adapter`" in text
    assert "| loaded by PEFT | PEFT applies 6 of 6 modules to some/base (LlamaForCausalLM) |" in text
    assert text == card_of(small_adapter, "my/adapter")


def test_the_card_tells_the_gains_of_layer_groups(small_adapter):
    assert "layer groups" not in card_of(small_adapter, "my/adapter")
    told = card_of(small_adapter, "my/adapter", groups=LayerGroups({"o_proj": 0.5}))
    assert "| gains of layer groups | o_proj ×0.5 |\n" in told


def test_the_card_tells_a_strength_other_than_one(small_adapter):
    assert "strength" not in card_of(small_adapter, "my/adapter")
    assert "| strength | 0.5 |\n| raised" in card_of(small_adapter, "my/adapter", strength=0.5)


def test_the_card_says_why_peft_was_not_asked(small_adapter):
    text = card_of(small_adapter, "my/adapter", PeftLoading(6, None, unchecked="the config is not here; name it"))
    assert "how many of the 6 modules PEFT applies was not checked: the config is not here; name it |" in text


def test_a_hostile_name_stays_one_plain_cell(small_adapter):
    text = card_of(small_adapter, "x`|<script>\n# heading\u202e" + "y" * 500)
    (row,) = [line for line in text.splitlines() if line.startswith("| original adapter")]
    assert row.count("|") == 3
    assert "<" not in row
    assert "\n# heading" not in text
    assert len(row) < 300


def test_the_card_says_what_an_export_says_otherwise_than_the_files(lora_tensors, write_adapter):
    tensors = lora_tensors({"model.layers.0.self_attn.o_proj": (6, 4, 5)})
    plain = write_adapter(tensors)
    assert "except for" not in card_of(plain, "a")
    text = card_of(write_adapter({f"_orig_mod.{key}": tensor for key, tensor in tensors.items()}), "a")
    assert "dtypes, except for:\n\n- the file's tensors have names" in text
    assert "'_orig_mod.'" in text
