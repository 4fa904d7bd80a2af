"""Adapters of models that read pictures too, and of modules that had other names: what runs is what PEFT runs."""

import ast

import numpy as np
import pytest
from peft import PeftModel

from surgery.adapter import open_adapter
from surgery.edits import make_edit
from surgery.errors import BaseModelError, ExportError
from surgery.export import export
from surgery.model import BaseChoice, attach, load_base
from surgery.policies import RandomIndex
from surgery.spectra import decompose
from tests.helpers import pictures
from tests.helpers.models import save_expert_by_expert, save_model, tiny_mixtral
from tests.helpers.row_by_row import alone, together

# mean losses of float32 sums of a few hundred terms
CLOSE = 2e-5
LLAVA, QWEN = ("model.language_model.", "language_model.model."), ("model.language_model.", "model.")
OLD = {"gemma3": LLAVA, "llava": LLAVA, "mistral3": LLAVA, "mllama": LLAVA}


def agrees(live, expected) -> None:
    """Losses and answers in every way there is are those of PEFT's model, row by row."""
    found = together(live)
    for name, losses in found.losses:
        if name == "adapter":
            np.testing.assert_allclose(losses, expected.losses, atol=CLOSE)
    assert found.answers["adapter"] == expected.answers
    assert np.abs(dict(found.losses)["base"] - expected.losses).max() > 0.1


@pytest.mark.parametrize("kind", pictures.CONFIGS)
def test_a_model_of_text_and_pictures_reads_text_as_pefts_own_model_does(kind, tmp_path):
    base, folder = pictures.save(pictures.build(kind), tmp_path)
    adapter = open_adapter(folder)
    with attach(adapter, decompose(adapter), BaseChoice(str(base))) as live:
        assert type(live.model) is type(pictures.build(kind))
        assert "pictures are out of scope" in live.scoring_notes[0]
        agrees(live, alone(PeftModel.from_pretrained(pictures.build(kind), folder).eval()))


@pytest.mark.parametrize("kind", ["qwen3.5", "mllama"])
def test_of_two_classes_the_one_is_loaded_that_has_the_adapters_modules(kind, tmp_path):
    text = pictures.build(kind, "AutoModelForCausalLM")
    both = pictures.build(kind)
    bases, opened = [], []
    for name, model in (("text", text), ("both", both)):
        base, folder = pictures.save(model, tmp_path / name)
        bases.append(base)
        opened.append(open_adapter(folder))
    loaded = [load_base(str(bases[1]), adapter=adapter) for adapter in opened]
    assert [type(each.model) for each in loaded] == [type(text), type(both)]
    assert [[base.serves(adapter) for adapter in opened] for base in loaded] == [[True, False], [False, True]]
    for base, adapter in zip(loaded, opened, strict=True):
        assert {name for name, _ in base.model.named_modules()} >= set(adapter.modules)


@pytest.mark.parametrize("kind", OLD)
def test_an_adapter_under_earlier_names_runs_and_is_exported_as_peft_loads_it(kind, tmp_path):
    base, folder = pictures.save(pictures.build(kind), tmp_path)
    now = alone(PeftModel.from_pretrained(pictures.build(kind), folder).eval())
    adapter = open_adapter(pictures.rename(folder, *OLD[kind]))
    assert all(name.startswith(OLD[kind][1]) for name in adapter.modules)
    spectra = decompose(adapter)
    with attach(adapter, spectra, BaseChoice(str(base))) as live:
        agrees(live, now)
    edit = make_edit(spectra, RandomIndex(amp=2.0), scope="all")
    written = export(adapter, spectra, edit, tmp_path / "out", base=BaseChoice(str(base)))
    assert written.loading.applied == len(adapter.modules)
    with attach(adapter, spectra, BaseChoice(str(base))) as live:
        live.set_sigma(edit.sigma_after)
        edited = PeftModel.from_pretrained(pictures.build(kind), written.folder).eval()
        np.testing.assert_allclose(alone(live.model).losses, alone(edited).losses, atol=CLOSE)


def test_the_way_out_of_names_that_peft_does_not_know_arrives(tmp_path):
    base, folder = pictures.save(pictures.build("qwen2.5-vl"), tmp_path)
    now = alone(PeftModel.from_pretrained(pictures.build("qwen2.5-vl"), folder).eval())
    adapter = open_adapter(pictures.rename(folder, *QWEN))
    spectra = decompose(adapter)
    with pytest.raises(BaseModelError, match="this is an earlier name, which PEFT has to be told of") as refused:
        attach(adapter, spectra, BaseChoice(str(base)))
    edit = make_edit(spectra, RandomIndex(), scope="all")
    with pytest.raises(ExportError, match=r"PEFT would apply 0 of 8 edited modules .* this is an earlier name"):
        export(adapter, spectra, edit, tmp_path / "out", base=BaseChoice(str(base)))
    arrives("qwen2.5-vl", refused.value.remedy, base, folder, now)


def arrives(kind, remedy, base, folder, expected) -> None:
    """An adapter that was loaded with the key mapping that a remedy names, saved and opened, runs as it should."""
    mapping = ast.literal_eval(remedy.partition("key_mapping=")[2].partition("), save")[0])
    again = folder.parent / "again"
    PeftModel.from_pretrained(pictures.build(kind), folder, key_mapping=mapping).save_pretrained(again)
    adapter = open_adapter(again)
    with attach(adapter, decompose(adapter), BaseChoice(str(base))) as live:
        agrees(live, expected)


def test_an_adapter_of_the_text_part_alone_is_told_its_place_in_the_model_that_reads_pictures_too(tmp_path):
    base, folder = pictures.save(pictures.build("gemma3"), tmp_path)
    now = alone(PeftModel.from_pretrained(pictures.build("gemma3"), folder).eval())
    adapter = open_adapter(pictures.rename(folder, "model.language_model.", "model."))
    with pytest.raises(BaseModelError, match="where that is the text part of this one") as refused:
        attach(adapter, decompose(adapter), BaseChoice(str(base)))
    arrives("gemma3", refused.value.remedy, base, folder, now)


def test_the_way_out_of_experts_that_were_modules_each_arrives(tmp_path):
    base = save_model(tiny_mixtral(), tmp_path / "base")
    adapter = open_adapter(save_expert_by_expert(tmp_path / "adapter"))
    spectra = decompose(adapter)
    with pytest.raises(BaseModelError, match=r"keeps experts in one module .*PeftModel\.from_pretrained"):
        attach(adapter, spectra, BaseChoice(str(base)))
    edit = make_edit(spectra, RandomIndex(), scope="all")
    written = export(adapter, spectra, edit, tmp_path / "out", base=BaseChoice(str(base)))
    assert (written.loading.applied, len(adapter.modules)) == (18, 18)
    wrapped = PeftModel.from_pretrained(tiny_mixtral(), written.folder).eval()
    wrapped.save_pretrained(tmp_path / "again")
    again = open_adapter(tmp_path / "again")
    with attach(again, decompose(again), BaseChoice(str(base))) as live:
        agrees(live, alone(wrapped))
