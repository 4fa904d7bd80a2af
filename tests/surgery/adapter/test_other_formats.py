"""What is no adapter of PEFT's is called by its right name."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from surgery.adapter import open_adapter, other_formats
from surgery.errors import AdapterError
from tests.helpers.models import save_model, tiny_llama
from tests.helpers.refusals import refusal

KOHYA = "lora_unet_down_blocks_0_attentions_0_proj_in"
NAMES = {
    "kohya": [f"{KOHYA}.alpha", f"{KOHYA}.lora_down.weight", f"{KOHYA}.lora_up.weight"],
    "diffusers": [
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora.down.weight",
        "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora.up.weight",
    ],
    "diffusers, attention processors": ["mid_block.attentions.0.attn1.processor.to_q_lora.up.weight"],
    "diffusers, text encoder": ["text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.up.weight"],
    "diffusers, Flux": ["transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight"],
    "diffusers, one model": ["down_blocks.0.attentions.0.attn1.to_out.0.lora_A.weight"],
    "MLX": ["model.layers.20.self_attn.q_proj.lora_a", "model.layers.20.self_attn.q_proj.lora_b"],
    "torchtune": ["layers.0.attn.q_proj.lora_a.weight", "layers.0.attn.q_proj.lora_b.weight"],
    "PEFT": ["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"],
    "PEFT, a diffusers model": ["base_model.model.unet.down_blocks.0.attn1.to_q.lora_A.weight"],
    "PEFT, without its prefix": ["transformer.h.0.attn.c_attn.lora_A.weight", "transformer.blocks.0.attn.Wqkv.lora_A.weight"],
    "PEFT, an embedding": ["base_model.model.model.embed_tokens.lora_embedding_A"],
    "": ["model.layers.0.self_attn.q_proj.weight", "lm_head.weight"],
}  # fmt: skip


def weights(file: Path, names: list[str], pickled: bool = False) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if pickled:
        torch.save({name: torch.ones(2, 2) for name in names}, file)
    else:
        save_file({name: np.ones((2, 2), np.float32) for name in names}, file)
    return file


@pytest.mark.parametrize("kind", NAMES)
def test_formats_are_told_by_the_names_of_their_tensors(kind):
    assert other_formats.format_of(["text_model.logit_scale", *NAMES[kind]]) == kind.partition(",")[0]


@pytest.mark.parametrize("pickled", [False, True], ids=["safetensors", "pickle"])
@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("kohya", "style", "kohya LoRA of an image model"),
        ("diffusers", "pytorch_lora_weights", "diffusers LoRA of an image model"),
        ("torchtune", "adapter_0", "torchtune's own format"),
        ("MLX", "adapters", "MLX adapter"),
    ],
)
def test_a_file_and_the_folder_around_it_are_called_the_same(kind, name, told, pickled, tmp_path):
    file = weights(tmp_path / "x" / f"{name}.{'bin' if pickled else 'safetensors'}", NAMES[kind], pickled)
    for source in (file, tmp_path / "x"):
        assert told in refusal(AdapterError, open_adapter, source)


def test_a_stable_diffusion_lora_under_pefts_name_is_called_what_it_is(tmp_path):
    weights(tmp_path / "adapter_model.bin", NAMES["diffusers"], pickled=True)
    assert "diffusers LoRA" in refusal(AdapterError, open_adapter, tmp_path)


def test_a_whole_model_is_told_by_its_class(tmp_path):
    save_model(tiny_llama(), tmp_path)
    for source in (tmp_path, tmp_path / "model.safetensors"):
        assert "is a whole model (LlamaForCausalLM), merged or never adapted" in refusal(
            AdapterError, open_adapter, source
        )
    (tmp_path / "config.json").write_text('{"architectures": 3}')
    assert "is a whole model, merged" in refusal(AdapterError, open_adapter, tmp_path)
    (tmp_path / "config.json").unlink()
    assert "is a whole model, merged" in refusal(AdapterError, open_adapter, tmp_path)


@pytest.mark.parametrize(
    ("kind", "told"), [("adapter", "GGUF LoRA of llama.cpp"), ("model", "GGUF model of architecture llama")]
)
def test_a_gguf_file_is_a_lora_or_a_model(kind, told, tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_type(kind)
    for write in ("write_header_to_file", "write_kv_data_to_file", "close"):
        getattr(writer, write)()
    for source in (tmp_path, tmp_path / "x.gguf"):
        assert told in refusal(AdapterError, open_adapter, source)


def test_what_training_leaves_beside_an_adapter_is_not_taken_for_one(tmp_path):
    weights(tmp_path / "optimizer.pt", ["state.0.exp_avg"], pickled=True)
    weights(tmp_path / "measured.safetensors", ["values.model.layers.0"])
    assert "no adapter_config.json, so it is no PEFT adapter" in refusal(AdapterError, open_adapter, tmp_path)
    assert "holds no LoRA factors" in refusal(AdapterError, open_adapter, tmp_path / "measured.safetensors")
    (tmp_path / "notes.txt").write_text("mine")
    assert "no file of a PEFT adapter" in refusal(AdapterError, open_adapter, tmp_path / "notes.txt")


def test_a_config_whose_weights_have_another_name_says_which_to_rename(one, write_adapter):
    folder = write_adapter(one)
    (folder / "adapter_model.safetensors").rename(folder / "lora.safetensors")
    told = refusal(AdapterError, open_adapter, folder)
    assert "lora.safetensors" in told
    assert "rename it to adapter_model.safetensors" in told


def test_a_config_with_a_model_beside_it_is_a_whole_model(tmp_path):
    save_model(tiny_llama(), tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    assert "whole model" in refusal(AdapterError, open_adapter, tmp_path)
