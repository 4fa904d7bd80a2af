"""Any family that transformers has, a few layers of a few units: its own config with every size that it knows made small."""

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModel

SIZES = {
    **dict.fromkeys(["vocab_size", "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"], 64),
    **dict.fromkeys(["hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embedding_size", "d_embed"], 32),
    **dict.fromkeys(["encoder_hidden_size", "word_embed_proj_dim", "attention_hidden_size", "lru_width"], 32),
    **dict.fromkeys(["intermediate_size", "d_ff", "ffn_dim", "hidden_dim", "n_inner", "d_inner"], 48),
    **dict.fromkeys(["encoder_ffn_dim", "decoder_ffn_dim", "ffn_hidden_size", "mlp_hidden_size"], 48),
    **dict.fromkeys(["num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers"], 2),
    **dict.fromkeys(["decoder_layers", "num_encoder_layers"], 2),
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"], 2),
    **dict.fromkeys(["decoder_attention_heads", "linear_num_value_heads", "linear_num_key_heads"], 2),
    **dict.fromkeys(["num_key_value_heads", "n_heads_kv", "mamba_n_groups", "topk_group"], 1),
    **dict.fromkeys(
        ["head_dim", "d_kv", "d_head", "v_head_dim", "q_lora_rank", "kv_lora_rank", "sliding_window"], 16
    ),
    **dict.fromkeys(["rotary_dim", "qk_rope_head_dim", "qk_nope_head_dim", "state_size", "time_step_rank"], 8),
    **dict.fromkeys(["linear_key_head_dim", "linear_value_head_dim", "mamba_d_state", "patch_size"], 8),
    **dict.fromkeys(["num_local_experts", "num_experts", "n_routed_experts", "mamba_n_heads"], 4),
    **dict.fromkeys(["moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size"], 24),
    **dict.fromkeys(["num_experts_per_tok", "n_group"], 2),
    **dict.fromkeys(["n_shared_experts", "first_k_dense_replace", "bos_token_id", "decoder_start_token_id"], 1),
    "mamba_d_head": 16,
    "image_size": 32,
    "pad_token_id": 0,
    "eos_token_id": 2,
}
_TEXT = {"input_ids": torch.arange(5, 13)[None]}
_IMAGE = torch.linspace(-1, 1, 3 * 224 * 224).reshape(1, 3, 224, 224)
# what a family may take: the first that it does not refuse
INPUTS = (
    _TEXT,
    {**_TEXT, "decoder_input_ids": _TEXT["input_ids"]},
    {"pixel_values": _IMAGE[..., :32, :32]},
    {"pixel_values": _IMAGE},
    {"input_values": torch.linspace(-1, 1, 4000)[None]},
)


def tiny_model(family: str) -> Any:
    """A random model of the family, in evaluation mode; raises `ValueError` where it does not come out small."""
    kind = CONFIG_MAPPING[family]
    config = kind()
    known = {*vars(config), *getattr(kind, "attribute_map", {})}
    small = {name: size for name, size in SIZES.items() if name in known and _is_size(getattr(config, name, None))}
    layers = getattr(config, "layer_types", None)
    torch.manual_seed(0)
    try:
        config = kind(**small, **({"layer_types": [layers[0], layers[-1]]} if isinstance(layers, list) else {}))
    except Exception:  # the two layers are not all kinds that it has to have
        config = kind(**small)
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in AutoModel.from_config(config).parameters())
    if size > 4_000_000:
        raise ValueError(f"{family} has {size:,} parameters")
    return AutoModel.from_config(config).float().eval()


def _is_size(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))
