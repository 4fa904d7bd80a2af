"""Every causal language model that transformers can build small on a CPU, with random weights and a LoRA of peft's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig

from surgery.adapter import open_adapter
from surgery.model import LiveModel
from surgery.spectra import decompose
from tests.helpers.models import EOS, PAD, VOCABULARY, loaded_base, random_weights

# what configs call a size, and the size here
_SIZES: dict[int, str] = {
    VOCABULARY: "vocab_size vocab_size_per_layer_input text_vocab_size decoder_vocab_size",
    32: "hidden_size d_model n_embd dim embedding_size word_embed_proj_dim attention_hidden_size lru_width "
    "emb_dim dim_model adapter_input_size",
    48: "intermediate_size ffn_dim n_inner encoder_ffn_dim decoder_ffn_dim ffn_hidden_size d_inner dim_ff "
    "intermediate_size_mlp dff feed_forward_size",
    4: "num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads "
    "num_encoder_attention_heads num_decoder_attention_heads num_experts num_local_experts n_routed_experts "
    "moe_num_experts linear_num_key_heads linear_num_value_heads",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_blocks num_encoder_layers "
    "num_decoder_layers num_key_value_heads num_kv_heads num_experts_per_tok moe_k moe_top_k top_k_experts moe_topk",
    8: "head_dim v_head_dim kv_channels dim_head d_kv swa_head_dim qk_rope_head_dim qk_nope_head_dim state_size "
    "mamba_d_state ssm_state_size linear_key_head_dim linear_value_head_dim mamba_head_dim mamba_d_head",
    128: "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions max_source_positions "
    "original_max_position_embeddings",
    16: "moe_intermediate_size shared_expert_intermediate_size expert_ffn_hidden_size q_lora_rank kv_lora_rank "
    "moe_shared_expert_intermediate_size",
    6: "sliding_window attention_window_size window_size attention_chunk_size",
    1: "n_group topk_group",
}
_BY_NAME = {name: size for size, names in _SIZES.items() for name in names.split()}
# eight heads of eight for an inner width of twice the hidden size
_MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8}
_EXPERTS = {"n_group": 1, "topk_group": 1, "num_experts_per_tok": 2}
# the attention of Zamba's kinds is shared by several layers
_SHARED = {
    "layers_block_type": ["mamba", "mamba", "hybrid"] * 2,
    "attention_hidden_size": 64,
    "attention_head_dim": 16,
}
_OWN: Mapping[str, Mapping[str, Any]] = {
    "bailing_hybrid": {"num_hidden_layers": 4, "layer_group_size": 2, **_EXPERTS},
    "bamba": {**_MAMBA2, "attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 4},
    "falcon-alibi": {"alibi": True},
    "gemma3n_text": {"num_kv_shared_layers": 0},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "gptj": {"rotary_dim": 4},
    "granitemoehybrid": {**_MAMBA2, "layer_types": ["mamba", "attention"]},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "longcat_flash": {"head_dim": 8},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": _EXPERTS,
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "ministral": {"head_dim": 8},
    "nemotron": {"num_key_value_heads": 2},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 16]},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"num_hidden_layers": 6, **_SHARED},
    "zamba2": {"num_hidden_layers": 6, **_SHARED, "n_mamba_heads": 8, "mamba_headdim": 8},
    "zaya": {"num_experts_per_tok": 1},
}
# settings of a kind that another has under its own name
_KINDS = {"falcon-alibi": "falcon"}


def config_of(kind: str) -> PretrainedConfig:
    """A config of this model type with every size that is known made small."""
    made = CONFIG_MAPPING[_KINDS.get(kind, kind)]
    return made(**{**_small(made), **_OWN.get(kind, {})})


def _small(made: type[PretrainedConfig]) -> dict[str, Any]:
    default = made()
    values: dict[str, Any] = {}
    for name in default.to_dict():
        given = _value(default, name)
        if name in _BY_NAME and isinstance(given, int) and not isinstance(given, bool):
            values[name] = _BY_NAME[name]
    if "qk_rope_head_dim" in values:
        values.pop("head_dim", None)  # those kinds make it from the two parts of their keys
        values["num_key_value_heads"] = values.get("num_attention_heads", 4)
    values |= {"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": EOS}
    if _value(default, "is_decoder") is not None:
        values["is_decoder"] = True
    for name, part in made.sub_configs.items():
        if part in CONFIG_MAPPING.values():
            values[name] = part(**_small(part))
    return values


def _value(config: PretrainedConfig, name: str) -> Any:
    try:
        return getattr(config, name, None)
    except Exception:  # some attributes differ from layer to layer and refuse to be read as one
        return None


def build(kind: str) -> Any:
    """A small model of this type with random weights, frozen, the same on every call."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config_of(kind))
    return random_weights(model)


def train(kind: str, folder: Path) -> Path:
    """An adapter of peft's, with random factors, on every linear layer that it adapts in this type."""
    model = build(kind)
    output = model.get_output_embeddings()
    names = [
        name
        for name, layer in model.named_modules()
        if (isinstance(layer, torch.nn.Linear) or type(layer).__name__ == "Conv1D")
        and layer is not output
        # peft refuses it in Mamba's kinds
        and not name.endswith("out_proj")
        # which expert a token goes to is no matter of this
        and "router" not in name
    ]
    generator = torch.Generator().manual_seed(2)
    adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=4, target_modules=names))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    adapted.save_pretrained(folder)
    return folder


def attached(kind: str, folder: Path, dtype: torch.dtype = torch.float32) -> LiveModel:
    """The adapter of a folder on a fresh model of this type."""
    adapter = open_adapter(folder)
    return LiveModel(loaded_base(build(kind).to(dtype)), adapter, decompose(adapter))


def reference(kind: str, folder: Path) -> PeftModel:
    """peft's own model of the same, with every factor of the file: where types were renamed it loads some of them only."""
    found = PeftModel.from_pretrained(build(kind), folder).eval()
    saved = load_file(folder / "adapter_model.safetensors")
    factors = {name: weight for name, weight in found.named_parameters() if "lora_" in name}
    assert {name.replace(".default.", ".") for name in factors} == set(saved)
    with torch.no_grad():
        for name, weight in factors.items():
            weight.copy_(saved[name.replace(".default.", ".")])
    return found
