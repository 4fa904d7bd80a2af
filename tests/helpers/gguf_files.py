"""Small random models of several kinds as GGUF files, as llama.cpp lays them out."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import torch
import transformers as t

_SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
# by the architecture that the file names
KINDS: Mapping[str, Callable[[], Any]] = {
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**_SIZES)),
    # transformers reads no size of heads from a file of Qwen3, whose models all have this one
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**{**_SIZES, "head_dim": 128})),
    "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**_SIZES)),
    "gemma3": lambda: t.Gemma3ForCausalLM(t.Gemma3TextConfig(**_SIZES)),
}


def build(kind: str) -> Any:
    torch.manual_seed(0)
    model = KINDS[kind]().eval().requires_grad_(False)
    for weight in model.parameters():
        weight.add_(torch.randn_like(weight) * 0.1)
    return model


def save(model: Any, file: Path, kind: str, *, named: str = "") -> Path:
    """The model in a file; `named` is the architecture that the file claims, where that is another."""
    gemma = kind.startswith("gemma")
    writer = begin(file, named or kind, model.config)
    writer.add_key_length(model.config.head_dim)
    writer.add_value_length(model.config.head_dim)
    if gemma:
        writer.add_sliding_window(model.config.sliding_window)
    add_tokens(writer, model.config.vocab_size, "llama" if gemma else "gpt2")
    writer.add_token_scores([0.0] * model.config.vocab_size)
    _add_weights(writer, model, kind)
    return finish(writer, file)


def begin(file: Path, architecture: str, config: Any) -> Any:
    """A writer that has been told the sizes of a model."""
    writer = gguf.GGUFWriter(str(file), architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    return writer


def add_tokens(writer: Any, size: int, kind: str, *, merge: str = "a b") -> None:
    """Three special tokens, `ab`, and characters from 0 on."""
    words = ["ab", *(chr(ord("0") + i) for i in range(size - 4))]
    writer.add_tokenizer_model(kind)
    writer.add_token_list(["<unk>", "<s>", "</s>", *words])
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * len(words))
    writer.add_token_merges([merge])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def finish(writer: Any, file: Path) -> Path:
    """Everything that the writer was told, in its file."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add_weights(writer: Any, model: Any, kind: str) -> None:
    architecture = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}[kind]
    names = gguf.get_tensor_name_map(architecture, model.config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        module, _, leaf = name.rpartition(".")
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        # llama.cpp keeps what Gemma's norms multiply with, transformers what they add to one
        value = weight + 1 if kind.startswith("gemma") and module.endswith("norm") else weight
        writer.add_tensor(f"{names.get_name(module)}.{leaf}", value.contiguous().numpy())
