"""Opening a base model: what is loaded, how it is identified, and what is refused in one line."""

import json
import os
import shutil

import pytest
import torch
import transformers
from transformers.utils import logging

from surgery.model import BaseChoice, load_base, resolve_base
from tests.helpers.models import save_adapter, save_model, tiny_gpt2, tiny_llama, tiny_tokenizer
from tests.surgery.model.conftest import refused_base


def configure(folder, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_folder_loads_frozen_in_eval_mode_with_its_own_weights(saved_base):
    loaded = load_base(str(saved_base))
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    expected = tiny_llama().state_dict()
    found = loaded.model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert loaded.location == str(saved_base)
    assert loaded.tokenizer("1+1").input_ids == tiny_tokenizer()("1+1").input_ids
    assert loaded.tokenizer.chat_template == tiny_tokenizer().chat_template


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_weights_are_held_in_the_dtype_asked_for(saved_base, dtype):
    model = load_base(BaseChoice(str(saved_base), dtype=dtype)).model
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}


def test_tied_embeddings_are_complete(tmp_path):
    # the file holds one of the two tensors only
    loaded = load_base(str(save_model(tiny_gpt2(), tmp_path / "base")))
    assert loaded.model.lm_head.weight is loaded.model.transformer.wte.weight


def test_the_fingerprint_follows_weights_and_config_not_the_place(saved_base, folder, tmp_path):
    expected = load_base(str(saved_base)).fingerprint
    assert load_base(str(folder)).fingerprint == expected
    assert load_base(BaseChoice(str(saved_base), dtype="bfloat16")).fingerprint == expected
    other = save_model(tiny_llama(seed=1), tmp_path / "other")
    configure(folder, rms_norm_eps=1e-4)
    assert len({expected, load_base(str(other)).fingerprint, load_base(str(folder)).fingerprint}) == 3


def test_loading_shows_no_progress_bar_and_leaves_the_settings_as_they_were(saved_base, monkeypatch, capfd):
    monkeypatch.setenv("TQDM_DISABLE", "before")
    shown = logging.is_progress_bar_enabled()
    load_base(str(saved_base))
    assert "%|" not in capfd.readouterr().err
    assert os.environ["TQDM_DISABLE"] == "before"
    assert logging.is_progress_bar_enabled() == shown
    monkeypatch.delenv("TQDM_DISABLE")
    load_base(str(saved_base))
    assert "TQDM_DISABLE" not in os.environ


def test_an_unknown_dtype_is_refused_with_the_known_ones(saved_base):
    message = refused_base(saved_base, function=lambda base: load_base(BaseChoice(base, dtype="float8")))
    assert "'float8'" in message
    assert "bfloat16" in message


def test_a_device_that_is_not_here_is_refused(saved_base, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in refused_base(
        saved_base, function=lambda base: load_base(BaseChoice(base, device="cuda:0"))
    )


def test_a_device_that_does_not_exist_is_refused(saved_base):
    assert "'banana'" in refused_base(
        saved_base, function=lambda base: load_base(BaseChoice(base, device="banana"))
    )


def test_an_adapter_folder_is_no_base_model(tmp_path):
    adapter = save_adapter(tiny_llama(), tmp_path / "adapter")
    assert "is an adapter folder, not a base model" in refused_base(adapter)


def test_an_adapter_saved_next_to_its_base_is_still_no_base_model(folder):
    # transformers would load base and adapter together, and every number would be of both
    save_adapter(tiny_llama(), folder)
    assert "is an adapter folder" in refused_base(folder)


@pytest.mark.parametrize("name", ["missing", "/nowhere/at/all", "./owner/name", "~/owner", "a/b/c"])
def test_a_place_with_nothing_in_it_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert "no base model at" in refused_base(name)


def test_two_words_with_a_slash_may_be_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_base("owner/name") == "owner/name"


def test_a_folder_wins_over_a_hub_id_of_the_same_name(saved_base, tmp_path, monkeypatch):
    shutil.copytree(saved_base, tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    assert load_base(BaseChoice("owner/name", "main")).fingerprint == load_base(str(saved_base)).fingerprint


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in refused_base(folder)


def test_a_config_that_is_not_json_is_refused(folder):
    (folder / "config.json").write_text("{")
    refused_base(folder)


def test_a_model_that_is_not_causal_is_refused(folder):
    (folder / "config.json").write_text('{"model_type": "t5"}')
    refused_base(folder)


def test_an_unknown_architecture_is_refused(folder):
    configure(folder, model_type="strange")
    refused_base(folder)


def test_remote_code_is_refused_and_never_run(folder, tmp_path):
    trace = tmp_path / "trace"
    (folder / "code.py").write_text(f"open({str(trace)!r}, 'w')\nclass C: pass\nclass M: pass\n")
    configure(folder, model_type="strange", auto_map={"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"})
    refused_base(folder)
    assert not trace.exists()


def test_pickled_weights_are_refused_and_never_read(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    torch.save(tiny_llama().state_dict(), folder / "pytorch_model.bin")
    refused_base(folder)


@pytest.mark.parametrize("keep", [0, 100, -100], ids=["empty", "header cut", "end cut"])
def test_damaged_weights_are_refused(folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refused_base(folder)


def test_weights_of_another_shape_are_refused(folder):
    configure(folder, intermediate_size=40)
    refused_base(folder)


def test_a_checkpoint_that_lacks_weights_is_refused(folder):
    # transformers fills the gap with random numbers and a warning: every result would be noise
    tiny_llama().model.save_pretrained(folder)
    assert "lm_head.weight" in refused_base(folder)


def test_a_base_that_needs_a_missing_package_is_refused_with_its_name(saved_base, monkeypatch):
    # what transformers raises for a quantised checkpoint; raised here on machines that have the package too
    def quantised(*arguments, **options):
        raise ImportError("Using `bitsandbytes` 4-bit quantization requires bitsandbytes")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", quantised)
    assert "bitsandbytes" in refused_base(saved_base)


def test_a_folder_without_tokenizer_is_refused(folder):
    for file in folder.glob("*token*"):
        file.unlink()
    refused_base(folder)


@pytest.mark.parametrize("content", ["{", '{"version": "1.0"}', "[]"])
def test_a_damaged_tokenizer_is_refused(folder, content):
    (folder / "tokenizer.json").write_text(content)
    refused_base(folder)
