"""What a module does in its block, told by the end of its path: writer into the residual stream, input of the
attention, first half of the MLP.

The table holds the names of the families that transformers has and of common code outside of it. Two components of
a path go before one, because one name has several roles: BERT's `output.dense` writes into the stream and its
`intermediate.dense` does not. What is in no list, such as routers, poolers and heads, has no role.
"""

from functools import lru_cache

RESIDUAL, ATTENTION, GATE_UP = "residual", "attention-inputs", "gate-up"

_RESIDUAL = (
    *("o_proj", "down_proj", "out_proj", "c_proj", "fc2", "wo", "Wo", "o", "out_lin", "lin2", "fc_out", "w2"),
    *("dense_4h_to_h", "dense2", "w_out", "attention_out", "attn_out", "ff_out", "ffn_output", "output_dense"),
    *("linear2", "linear_fc2", "linear_out", "output_linear", "ffw_layer_2", "mlp_fc2", "proj_down", "o_b_proj"),
    *("pwconv2", "pointwise_conv2", "to_out", "to_add_out", "o_proj.linear", "ffn.2", "net.2", "output.dense"),
    *("attention.dense", "self_attention.dense", "self_attn.dense", "attn.dense", "multi_head_attention.dense"),
    *("attn.proj", "attention.proj", "attention.output", "self_attn.output", "attn.out", "feed_forward.value"),
    *("ff.layer_2", "attention.projection_layer", "attn.final", "output.bottleneck.dense", "post_expert_proj"),
)
_ATTENTION = (
    *("q_proj", "k_proj", "v_proj", "qkv_proj", "kv_proj", "c_attn", "query_key_value", "query", "key", "value"),
    *("q", "k", "v", "kv", "qkv", "q_lin", "k_lin", "v_lin", "query_proj", "key_proj", "value_proj"),
    *(
        "Wqkv",
        "wqkv",
        "Wq",
        "Wk",
        "Wv",
        "wq",
        "wk",
        "wv",
        "W_pack",
        "att_proj",
        "linear_q",
        "linear_k",
        "linear_v",
    ),
    *("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "project_q", "project_k", "project_v"),
    *("query_global", "key_global", "value_global", "to_q", "to_k", "to_v", "to_kv", "to_qkv"),
    *("add_q_proj", "add_k_proj", "add_v_proj", "q_proj.linear", "k_proj.linear", "v_proj.linear"),
    # what a state-space or linear-attention mixer reads from the stream
    *("in_proj", "in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "in_proj_qkvz", "in_proj_ba"),
    *("attention.receptance", "r_proj", "to_query", "to_key", "bottleneck.attention.dense"),
)
_GATE_UP = (
    *("gate_proj", "up_proj", "gate_up_proj", "fc1", "c_fc", "c_fc_0", "c_fc_1", "dense_h_to_4h", "lin1", "fc_in"),
    *("wi", "wi_0", "wi_1", "Wi", "w1", "w3", "v1", "w_0", "w_1", "dense1", "linear1", "linear_fc1", "linear_in"),
    *("ff_proj", "input_linear", "ffw_layer_1", "mlp_fc1", "proj_up", "pwconv1", "pointwise_conv1"),
    *("intermediate.dense", "intermediate_dense", "albert_layers.ffn", "ffn.0", "net.0.proj"),
    *("feed_forward.key", "feed_forward.receptance", "ff.layer_1"),
    # Qwen's first generation gates with w2 and writes with c_proj
    "h.mlp.w2",
)
_ROLES = {
    tuple(ending.split(".")): role
    for role, endings in ((RESIDUAL, _RESIDUAL), (ATTENTION, _ATTENTION), (GATE_UP, _GATE_UP))
    for ending in endings
}
_LONGEST = max(map(len, _ROLES))


# every scope and every page asks for the roles of all modules
@lru_cache(maxsize=1 << 17)
def role_of(name: str) -> str | None:
    """The role of a module by its path: `residual`, `attention-inputs`, `gate-up`, or None for any other.

    The longest ending that is known decides, with the numbers in the path first and then without them.
    """
    parts = tuple(name.split("."))
    without = tuple(part for part in parts if not part.isdecimal())
    for length in range(_LONGEST, 0, -1):
        for path in (parts, without):
            if len(path) >= length and (role := _ROLES.get(path[-length:])):
                return role
    return None
