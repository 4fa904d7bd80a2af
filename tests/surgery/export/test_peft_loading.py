"""How many modules PEFT applies is what PEFT's own model shows; a name in a file leads to no path."""

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file

from surgery.adapter import open_adapter
from surgery.edits import make_edit
from surgery.errors import ExportError
from surgery.export import export, peft_loading
from surgery.model import BaseChoice
from surgery.policies import RandomIndex
from surgery.spectra import decompose
from tests.helpers.models import (
    GPT2_TARGETS,
    VOCABULARY,
    save_adapter,
    save_model,
    tiny_gpt2,
    tiny_llama,
    tiny_mixtral,
)


def live_layers(model: Any, folder: Path) -> int:
    """LoRA layers of PEFT's own model whose B is not the zero that it begins with."""
    wrapped = PeftModel.from_pretrained(model, str(folder))
    layers = [layer for layer in wrapped.modules() if isinstance(layer, LoraLayer)]
    factors = [next(iter([*layer.lora_B.parameters(), *layer.lora_embedding_B.parameters()])) for layer in layers]
    return sum(bool(factor.any()) for factor in factors)


def tiny(name: str, config: str, **settings: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "pad_token_id": 3, **settings}
    return getattr(transformers, name)(getattr(transformers, config)(**sizes)).eval()


def resized() -> Any:
    model = tiny_llama()
    model.resize_token_embeddings(VOCABULARY + 3)
    return model


def bert() -> Any:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return tiny("BertForSequenceClassification", "BertConfig", num_labels=5, **sizes)


def t5() -> Any:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    return tiny("T5ForConditionalGeneration", "T5Config", decoder_start_token_id=0, **sizes)


def whisper() -> Any:
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "num_mel_bins": 8}
    return tiny("WhisperForConditionalGeneration", "WhisperConfig", **sizes, **heads)


EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
KINDS = {
    "llama": (tiny_llama, {}),
    "gpt2": (tiny_gpt2, {"targets": GPT2_TARGETS, "fan_in_fan_out": True}),
    "embedding": (tiny_llama, {"targets": ["embed_tokens", "q_proj"]}),
    "saved head": (tiny_llama, {"targets": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "more tokens": (resized, {"targets": ["q_proj"], "modules_to_save": ["lm_head", "embed_tokens"]}),
    "trained tokens": (tiny_llama, {"targets": ["q_proj"], "trainable_token_indices": {"embed_tokens": [4, 7]}}),
    "bias": (tiny_llama, {"targets": ["q_proj", "v_proj"], "lora_bias": True}),
    "ranks": (tiny_llama, {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}, "use_rslora": True}),
    "replicated": (tiny_llama, {"layer_replication": [[0, 2], [1, 3]]}),
    "experts": (tiny_mixtral, {"targets": ["q_proj"], "target_parameters": EXPERTS, "lora_dropout": 0.0}),
    "encoder": (bert, {"targets": ["query", "value"], "task_type": "SEQ_CLS"}),
    "encoder and decoder": (t5, {"targets": ["q", "v", "wo"], "task_type": "SEQ_2_SEQ_LM"}),
    "speech": (whisper, {"targets": ["q_proj", "v_proj", "conv1"], "task_type": None}),
}


@pytest.fixture
def pair(request, tmp_path) -> tuple[Any, Path, Path]:
    """A model, its folder and an adapter of it."""
    make, settings = KINDS[request.param]
    adapter = save_adapter(make(), tmp_path / "adapter", **settings)
    return make(), save_model(make(), tmp_path / "base"), adapter


@pytest.mark.parametrize("pair", KINDS, indirect=True)
def test_every_module_is_applied_on_its_own_base_as_pefts_own_model_shows(pair, tmp_path):
    model, base, folder = pair
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    edit = make_edit(spectra, RandomIndex(), scope="all")
    loading = export(adapter, spectra, edit, tmp_path / "out", base=BaseChoice(str(base))).loading
    assert (loading.applied, loading.ignored, loading.unchecked) == (len(adapter.modules), (), "")
    assert loading.base == f"{base} ({type(model).__name__})"
    stored = {factors.key_B for factors in adapter.modules.values()}
    assert live_layers(model, tmp_path / "out") == len(stored)


def test_modules_that_the_base_lacks_are_counted_and_an_edit_of_them_is_refused(tmp_path):
    folder = save_adapter(tiny_llama(), tmp_path / "adapter", targets=["q_proj", "o_proj"])
    smaller = tiny_llama(num_hidden_layers=2)
    base = BaseChoice(str(save_model(smaller, tmp_path / "base")))
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    loading = peft_loading(adapter, base)
    assert (loading.applied, loading.modules) == (4, 6)
    assert loading.applied == live_layers(smaller, folder)
    assert set(loading.ignored) == {f"model.layers.2.self_attn.{name}_proj" for name in "qo"}
    with pytest.raises(ExportError, match=r"2 of 3 edited modules to .*: it has no place for 'model\.layers\.2"):
        export(adapter, spectra, make_edit(spectra, RandomIndex()), tmp_path / "new" / "out", base=base)
    assert not (tmp_path / "new").exists()
    inside = make_edit(spectra, RandomIndex(), scope=r"layers\.[01]\.")
    assert export(adapter, spectra, inside, tmp_path / "out", base=base).loading.applied == 4


def test_the_way_out_of_a_wrong_base_is_the_right_one(tmp_path):
    folder = save_adapter(tiny_gpt2(), tmp_path / "adapter", targets=GPT2_TARGETS, fan_in_fan_out=True)
    wrong, right = (save_model(make(), tmp_path / make.__name__) for make in (tiny_llama, tiny_gpt2))
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    edit = make_edit(spectra, RandomIndex(), scope="all")
    with pytest.raises(ExportError, match=r"0 of 8 edited modules .*Target modules.*name the base model"):
        export(adapter, spectra, edit, tmp_path / "out", base=BaseChoice(str(wrong)))
    assert not (tmp_path / "out").exists()
    assert export(adapter, spectra, edit, tmp_path / "out", base=BaseChoice(str(right))).loading.applied == 8


def test_a_base_of_another_width_is_refused_with_the_sizes(tmp_path):
    folder = save_adapter(tiny_llama(), tmp_path / "adapter", targets=["o_proj"])
    base = save_model(tiny_llama(hidden_size=16), tmp_path / "base")
    loading = peft_loading(open_adapter(folder), BaseChoice(str(base)))
    assert loading.applied == 0
    assert "size mismatch" in loading.problem


def test_a_classifier_whose_file_lacks_its_head_is_refused_as_peft_refuses_it(tmp_path):
    folder = save_adapter(bert(), tmp_path / "adapter", targets=["query"], task_type="SEQ_CLS")
    file, base = folder / "adapter_model.safetensors", save_model(bert(), tmp_path / "base")
    whole = file.read_bytes()
    save_file({key: tensor for key, tensor in load_file(file).items() if "lora_" in key}, file)
    with pytest.raises(KeyError, match="classifier"):
        PeftModel.from_pretrained(bert(), str(folder))
    adapter = open_adapter(folder)
    edit = make_edit(decompose(adapter), RandomIndex(), scope="all")
    options = {"base": BaseChoice(str(base))}
    with pytest.raises(
        ExportError, match=r"0 of 2 edited modules .*: it lacks .*classifier.* → use an intact copy"
    ):
        export(adapter, decompose(adapter), edit, tmp_path / "out", **options)
    file.write_bytes(whole)
    intact = open_adapter(folder)
    assert export(intact, decompose(intact), edit, tmp_path / "out", **options).loading.applied == 2


def named(folder: Path, name: str) -> Path:
    """The same adapter with another base in its config."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": name}))
    return folder


@pytest.mark.parametrize("name", ["{there}", "owner/name", "../base", "never/fetched", ""])
def test_a_base_that_only_the_file_names_is_not_looked_for_on_the_disk(name, tmp_path, monkeypatch):
    base = save_model(tiny_llama(), tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    folder = named(save_adapter(tiny_llama(), tmp_path / "adapter"), name.format(there=base))
    loading = peft_loading(open_adapter(folder))
    assert loading.applied is None
    assert "was not checked: " in str(loading)
    assert "name the base" in loading.unchecked


def test_a_base_in_the_hubs_cache_is_found_by_the_name_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    kept = tmp_path / "cache" / "models--owner--name"
    commit = "abc" + 37 * "0"
    save_model(tiny_llama(), kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    folder = named(save_adapter(tiny_llama(), tmp_path / "adapter"), "owner/name")
    for base in (None, BaseChoice("owner/name"), BaseChoice("owner/name", revision=commit)):
        assert str(peft_loading(open_adapter(folder), base)) == (
            "PEFT applies 21 of 21 modules to owner/name (LlamaForCausalLM)"
        )


def test_a_base_with_code_of_its_own_is_not_run_and_said_to_be_unchecked(tmp_path):
    folder = save_adapter(tiny_llama(), tmp_path / "adapter")
    base = tmp_path / "base"
    base.mkdir()
    (base / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = {"model_type": "their-own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.M"}}
    (base / "config.json").write_text(json.dumps(config))
    loading = peft_loading(open_adapter(folder), BaseChoice(str(base)))
    assert loading.applied is None
    assert "cannot be read" in loading.unchecked
    assert not (tmp_path / "ran").exists()
