"""Bases that cannot be loaded: the reason by its right name, and a way out that arrives."""

import json
import re

import pytest
import torch

from surgery.errors import BaseModelError
from surgery.model import load_base
from tests.helpers import gguf_files
from tests.helpers.models import save_model, tiny_llama


def quantised(folder, **config):
    """A model folder that says bitsandbytes quantised it."""
    save_model(tiny_llama(), folder)
    file = folder / "config.json"
    kept = {"quant_method": "bitsandbytes", "load_in_4bit": True, "_load_in_4bit": True}
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantization_config": kept, **config}))
    return folder


def test_a_base_of_bitsandbytes_names_its_original_which_loads(tmp_path):
    save_model(tiny_llama(), tmp_path / "tiny")
    with pytest.raises(
        BaseModelError, match="is quantised by bitsandbytes, which is not installed here"
    ) as refused:
        load_base(str(quantised(tmp_path / "tiny-bnb-4bit")))
    named = re.search(r"the unquantised original, '(.+?)',", refused.value.remedy)
    assert load_base(named[1]).model.config.hidden_size == 32


def test_an_original_that_no_name_tells_is_asked_for_all_the_same(tmp_path):
    with pytest.raises(BaseModelError, match="name the unquantised original, or install bitsandbytes"):
        load_base(str(quantised(tmp_path / "mine")))


def test_a_base_out_of_reach_that_was_quantised_names_its_original(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BaseModelError, match="such as the unquantised original 'nobody/here'"):
        load_base("nobody/here-bnb-4bit")


def test_a_base_with_code_of_its_own_is_refused_and_the_class_of_transformers_loads(tmp_path):
    folder = save_model(tiny_llama(), tmp_path / "base")
    file = folder / "config.json"
    plain = json.loads(file.read_text())
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    own = {"model_type": "their-own", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}
    file.write_text(json.dumps({**plain, **own}))
    with pytest.raises(BaseModelError, match="needs code of its own, which is never run here → name a copy of it"):
        load_base(str(folder))
    assert not (tmp_path / "ran").exists()
    file.write_text(json.dumps(plain))
    assert load_base(str(folder)).model.config.model_type == "llama"


@pytest.mark.parametrize("kind", gguf_files.KINDS)
def test_gguf_files_of_several_kinds_load_with_their_weights(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    model = gguf_files.build(kind)
    loaded = load_base(str(gguf_files.save(model, tmp_path / f"{kind}.gguf", kind)))
    assert type(loaded.model) is type(model)
    expected, found = model.state_dict(), loaded.model.state_dict()
    assert found.keys() == expected.keys()
    # Gemma's norms went through one addition and one subtraction of 1
    assert all(torch.allclose(found[name], tensor, rtol=0, atol=2**-22) for name, tensor in expected.items())
    assert loaded.tokenizer("ab0").input_ids[-2:] == [3, 4]


def test_a_gguf_of_another_architecture_is_told_which_ones_are_read(tmp_path):
    file = gguf_files.save(gguf_files.build("qwen2"), tmp_path / "odd.gguf", "qwen2", named="plamo")
    with pytest.raises(BaseModelError, match=r"plamo is not supported yet.* reads \(.*gemma3.*llama.*qwen2, .*\)"):
        load_base(str(file))
