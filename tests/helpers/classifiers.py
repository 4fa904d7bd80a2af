"""Tiny classifiers of many families: a base without a head on disk, and an adapter, saved by peft, that brings the head."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import BertTokenizer

from tests.helpers.models import VOCABULARY

LABELS = 3
_WORDS = [
    "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "fine", "dull", "film", "plot", "the", "is", "not", "and",
    "eu", "re", "##ject", "##s", "##ing", "german", "call", "to", "boy", "##cott", "lamb", ".", "!", "very", "long",
]  # fmt: skip
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
_GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_inner": 48,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "initializer_range": 0.3,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
_BERT_TARGETS = ("query", "value", "intermediate.dense")


@dataclass(frozen=True)
class Kind:
    """A family: the name of its classes, its sizes, and what an adapter of it targets and saves."""

    name: str
    sizes: Mapping[str, Any] = field(default_factory=lambda: _SIZES)
    targets: Sequence[str] = _BERT_TARGETS
    saved: Sequence[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def model(self, task: str = "SEQ_CLS", seed: int = 0, labels: int = LABELS, **changes: Any) -> Any:
        """A random model with its head, in evaluation mode."""
        config = getattr(transformers, f"{self.name}Config")(**{**self.sizes, "num_labels": labels, **changes})
        ending = "ForSequenceClassification" if task == "SEQ_CLS" else "ForTokenClassification"
        torch.manual_seed(seed)
        return getattr(transformers, f"{self.name}{ending}")(config).requires_grad_(False).eval()


KINDS = {
    "bert": Kind("Bert"),
    "roberta": Kind("Roberta", {**_SIZES, "pad_token_id": 1, "max_position_embeddings": 66}),
    "distilbert": Kind(
        "DistilBert",
        {
            "vocab_size": VOCABULARY,
            "dim": 32,
            "hidden_dim": 48,
            "n_layers": 2,
            "n_heads": 4,
            "max_position_embeddings": 64,
            "initializer_range": 0.3,
        },
        ("q_lin", "v_lin", "lin1"),
    ),
    "electra": Kind("Electra", {**_SIZES, "embedding_size": 16}),
    "albert": Kind("Albert", {**_SIZES, "embedding_size": 16}, ("query", "value", "ffn")),
    "deberta": Kind(
        "DebertaV2",
        {**_SIZES, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
        ("query_proj", "value_proj"),
        ("pooler", "classifier"),
    ),
    "gpt2": Kind("GPT2", _GPT2, ("c_attn",), None, {"fan_in_fan_out": True}),
    "gpt2 that names its padding": Kind(
        "GPT2", {**_GPT2, "pad_token_id": 3}, ("c_attn",), None, {"fan_in_fan_out": True}
    ),
    "llama": Kind(
        "Llama", {**_SIZES, "num_key_value_heads": 2, "pad_token_id": None}, ("q_proj", "v_proj", "down_proj")
    ),
}


def word_tokenizer() -> BertTokenizer:
    """A tokenizer of pieces of words with the special tokens of BERT."""
    return BertTokenizer(vocab={token: number for number, token in enumerate(_WORDS)})


def save_classifier(
    kind: Kind, folder: Path, task: str = "SEQ_CLS", *, labels: int = LABELS, **config: Any
) -> tuple[Any, Path, Path]:
    """The trained model, the folder of its base without a head, and the adapter that peft saved of it."""
    model = kind.model(task, labels=labels)
    base = folder / "base"
    model.base_model.save_pretrained(base)
    word_tokenizer().save_pretrained(base)
    settings = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "task_type": task, **kind.options, **config}
    saved = settings.pop("modules_to_save", kind.saved)
    lora = LoraConfig(target_modules=list(kind.targets), modules_to_save=saved and list(saved), **settings)
    adapted = get_peft_model(model, lora).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    adapted.save_pretrained(folder / "adapter")
    return adapted, base, folder / "adapter"


def write_texts(file: Path, count: int = 12, labels: int = LABELS, start: int = 0) -> Path:
    """Texts of mixed lengths with labels by number, as JSON lines."""
    words = [word for word in _WORDS[5:] if not word.startswith("#")]
    rows = [
        {
            "text": " ".join(words[(n * n + i) % len(words)] for i in range(1 + (n * 5) % 9)) + f" {words[n % 7]}",
            "label": n * n % labels,
        }
        for n in range(start, start + count)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def write_words(file: Path, count: int = 12, labels: int = LABELS, start: int = 0) -> Path:
    """Words with a tag each, as JSON lines; some words are several tokens."""
    words = ["EU", "rejects", "German", "call", "to", "boycott", "lamb", "boycotting", "."]
    rows = []
    for n in range(start, start + count):
        rng, length = np.random.default_rng(n), 3 + n * 5 % 7
        tags = rng.integers(labels, size=length).tolist()
        rows.append({"tokens": [words[i] for i in rng.integers(len(words), size=length)], "tags": tags})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file
