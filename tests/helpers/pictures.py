"""Models that read pictures beside text, two layers of a few units each, and adapters of their text layers."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers as t
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from tests.helpers.models import EOS, PAD, VOCABULARY, random_weights, save_model

TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
}
SIGHT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
# ids of pictures are the last ones, which no row has
IMAGE = {"image_token_index": 60}
_QWEN_IDS = {"image_token_id": 60, "video_token_id": 61, "vision_start_token_id": 62, "vision_end_token_id": 63}
_QWEN_SIGHT = {"depth": 1, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "out_hidden_size": 16}
_ROTARY = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
_LINEAR = {"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2}
_ADAPTED = ("q_proj", "v_proj", "o_proj", "down_proj")


def _gemma3() -> Any:
    windows = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
    ids = {"image_token_index": 60, "boi_token_index": 61, "eoi_token_index": 62}
    return t.Gemma3Config(text_config={**TEXT, **windows}, vision_config=SIGHT, mm_tokens_per_image=4, **ids)


def _qwen2_5_vl() -> Any:
    sight = {**_QWEN_SIGHT, "patch_size": 4, "fullatt_block_indexes": [0]}
    return t.Qwen2_5_VLConfig(text_config={**TEXT, "rope_parameters": _ROTARY}, vision_config=sight, **_QWEN_IDS)


def _qwen3_vl() -> Any:
    sight = {**_QWEN_SIGHT, "patch_size": 4, "deepstack_visual_indexes": [0], "num_position_embeddings": 16}
    return t.Qwen3VLConfig(text_config={**TEXT, "rope_parameters": _ROTARY}, vision_config=sight, **_QWEN_IDS)


def _qwen3_5() -> Any:
    text = {**TEXT, **_LINEAR, "linear_num_value_heads": 2, "layer_types": ["linear_attention", "full_attention"]}
    sight = {**_QWEN_SIGHT, "patch_size": 4, "num_position_embeddings": 16}
    return t.Qwen3_5Config(text_config=text, vision_config=sight, **_QWEN_IDS)


def _llava() -> Any:
    return t.LlavaConfig(text_config=t.LlamaConfig(**TEXT), vision_config=t.CLIPVisionConfig(**SIGHT), **IMAGE)


def _mistral3() -> Any:
    sight = t.PixtralVisionConfig(**{**SIGHT, "head_dim": 8})
    return t.Mistral3Config(text_config=t.MistralConfig(**TEXT, sliding_window=None), vision_config=sight, **IMAGE)


def _mllama() -> Any:
    from transformers.models.mllama.configuration_mllama import MllamaTextConfig, MllamaVisionConfig

    rotary = {"rope_type": "default", "rope_theta": 10000.0}
    sight = {"attention_heads": 2, "num_global_layers": 1, "vision_output_dim": 32, "num_hidden_layers": 1}
    sizes = {"hidden_size": 16, "intermediate_size": 24, "image_size": 16, "patch_size": 8}
    return t.MllamaConfig(
        text_config=MllamaTextConfig(**TEXT, cross_attention_layers=[1], rope_parameters=rotary),
        vision_config=MllamaVisionConfig(**sizes, **sight, intermediate_layers_indices=[0]),
        **IMAGE,
    )


CONFIGS: Mapping[str, Callable[[], Any]] = {
    "gemma3": _gemma3,
    "qwen2.5-vl": _qwen2_5_vl,
    "qwen3-vl": _qwen3_vl,
    "qwen3.5": _qwen3_5,
    "llava": _llava,
    "mistral3": _mistral3,
    "mllama": _mllama,
}


def build(kind: str, seen: str = "AutoModelForImageTextToText") -> Any:
    """A model of this kind with random weights, frozen, the same on every call; `seen` is its class of transformers."""
    torch.manual_seed(0)
    model = getattr(t, seen).from_config(CONFIGS[kind]())
    return random_weights(model)


def save(model: Any, folder: Path, **config: Any) -> tuple[Path, Path]:
    """A base folder and a random adapter of peft's on its text layers."""
    base = save_model(model, folder / "base")
    names = [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, torch.nn.Linear) and "vis" not in name and name.endswith(_ADAPTED)
    ]
    lora = LoraConfig(r=2, lora_alpha=4, target_modules=names, task_type="CAUSAL_LM", **config)
    adapted = get_peft_model(model, lora)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    adapted.save_pretrained(folder / "adapter")
    return base, folder / "adapter"


def rename(folder: Path, new: str, old: str) -> Path:
    """The adapter as an earlier transformers named its modules, with targets that fit both names."""
    file, config = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    prefix = "base_model.model."
    tensors = load_file(file)
    save_file({key.replace(prefix + new, prefix + old): value for key, value in tensors.items()}, file)
    stacks = r"(model|language_model\.model|model\.language_model)\.layers"
    targets = {"target_modules": rf"{stacks}\..*({'|'.join(_ADAPTED)})"}
    config.write_text(json.dumps({**json.loads(config.read_text()), **targets}))
    return folder
