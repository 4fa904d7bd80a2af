"""Roles of modules by their paths, where no model of transformers is at hand to ask: older and other code."""

import pytest

from surgery.adapter import role_of

PATHS = {
    "residual": [
        "bert.encoder.layer.0.output.dense",
        "bert.encoder.layer.0.attention.output.dense",
        "blocks.3.attn.proj",
        "transformer.encoder.layers.0.self_attention.dense",
        "model.layers.0.block_sparse_moe.experts.3.w2",
        "model.layers.0.feed_forward.w2",
        "transformer.blocks.0.attn_out",
        "transformer.blocks.0.ff_out",
        "transformer_blocks.0.attn1.to_out.0",
        "transformer_blocks.0.ff.net.2",
        "wav2vec2.encoder.layers.0.feed_forward.output_dense",
        "rwkv.blocks.0.feed_forward.value",
        "transformer.h.0.mlp.c_proj",
        "transformer.h.0.attn.attention.out_proj",
        "h.1.ffn.2",
        "encoder.network.4.blocks.5.attn.final",
        "model.layers.0.mlp.experts.down_proj",
    ],
    "attention-inputs": [
        "distilbert.transformer.layer.0.attention.q_lin",
        "blocks.3.attn.qkv",
        "model.layers.0.self_attn.W_pack",
        "model.layers.0.attention.wqkv",
        "transformer.blocks.0.attn.Wqkv",
        "deberta.encoder.layer.0.attention.self.in_proj",
        "deberta.encoder.layer.0.attention.self.query_proj",
        "backbone.layers.0.mixer.in_proj",
        "rwkv.blocks.0.attention.value",
        "transformer_blocks.0.attn1.to_q",
        "gpt_neox.layers.0.attention.query_key_value",
    ],
    "gate-up": [
        "bert.encoder.layer.0.intermediate.dense",
        "distilbert.transformer.layer.0.ffn.lin1",
        "transformer.h.0.mlp.w1",
        "transformer.h.0.mlp.w2",
        "model.layers.0.block_sparse_moe.experts.3.w1",
        "model.layers.0.block_sparse_moe.experts.3.w3",
        "rwkv.blocks.0.feed_forward.key",
        "model.layers.0.mlp.experts.gate_up_proj",
        "transformer_blocks.0.ff.net.0.proj",
        "h.1.ffn.0",
    ],
    None: [
        "bert.pooler.dense",
        "lm_head",
        "lm_head.dense",
        "cls.predictions.transform.dense",
        "model.layers.0.mlp.gate",
        "model.layers.0.block_sparse_moe.gate",
        "model.layers.0.mlp.router",
        "model.layers.0.mlp.shared_expert_gate",
        "vit.patch_embeddings.projection",
        "model.embed_tokens",
        "proj",
        "",
    ],
}


@pytest.mark.parametrize(("role", "path"), [(role, path) for role, paths in PATHS.items() for path in paths])
def test_a_module_has_the_role_that_its_path_tells(role, path):
    assert role_of(path) == role
