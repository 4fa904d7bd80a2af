"""Causal language models of random weights in the shapes of known ones, made where they run, with random adapters.

Nothing of a model touches the disk; its adapter, a hundredth of it, is written and opened as any other.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

from surgery import Adapter, decompose, open_adapter
from surgery.data import Example
from surgery.model import LiveModel, LoadedBase
from surgery.spectra import Spectra

RANK = 16


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a causal language model by the names of its config, and the dtype of its weights."""

    name: str
    kind: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    vocab_size: int
    dtype: torch.dtype = torch.bfloat16

    def config(self) -> Any:
        """The config of transformers; no token ends an answer, so all answers have the same length."""
        from transformers import AutoConfig

        sizes = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        heads = {"head_dim": self.hidden_size // self.num_attention_heads}
        options = {"max_position_embeddings": 4096, "tie_word_embeddings": False}
        return AutoConfig.for_model(
            self.kind, **sizes, **heads, **options, bos_token_id=None, eos_token_id=None, pad_token_id=None
        )


LLAMA_8B = ModelShape("Llama-3.1-8B", "llama", 4096, 14336, 32, 32, 8, 128_256)
QWEN_8B = ModelShape("Qwen3-8B", "qwen3", 4096, 12288, 36, 32, 8, 151_936)
LLAMA_1B = ModelShape("Llama-3.2-1B", "llama", 2048, 8192, 16, 32, 8, 128_256)
SMALL = ModelShape("a small Llama", "llama", 256, 768, 4, 8, 4, 4096, torch.float32)
# an MLP far wider than the rest: a token takes 8 KiB in each of its tensors
TINY_LLAMA = ModelShape("a tiny Llama", "llama", 32, 4096, 2, 4, 2, 256)
TINY_QWEN = ModelShape("a tiny Qwen3", "qwen3", 32, 512, 2, 4, 2, 256)


def random_model(shape: ModelShape, device: str) -> Any:
    """A frozen model of random weights, made on its device."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(shape.config(), dtype=shape.dtype)
    return model.requires_grad_(False).eval()


@contextmanager
def random_live(shape: ModelShape, device: str) -> Iterator[LiveModel]:
    """A random model with a random LoRA of rank 16 on all its projections."""
    model = random_model(shape, device)
    adapter, spectra = random_adapter(shape)
    tokenizer = SimpleNamespace(pad_token_id=0, eos_token_id=None)
    with LiveModel(LoadedBase(model, tokenizer, shape.name, shape.name), adapter, spectra) as live:
        yield live


@lru_cache(maxsize=1)
def random_adapter(shape: ModelShape) -> tuple[Adapter, Spectra]:
    """A LoRA of random factors on all projections of the layers, with its spectra."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(shape.config())
    rng = np.random.default_rng(0)
    tensors = {}
    for path, layer in empty.named_modules():
        if isinstance(layer, torch.nn.Linear) and path != "lm_head":
            for side, size in (("A", (RANK, layer.in_features)), ("B", (layer.out_features, RANK))):
                factor = 0.02 * rng.standard_normal(size, dtype=np.float32)
                tensors[f"base_model.model.{path}.lora_{side}.weight"] = factor
    with tempfile.TemporaryDirectory() as folder:
        save_file(tensors, Path(folder) / "adapter_model.safetensors", metadata={"format": "pt"})
        settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK}
        settings |= {"target_modules": sorted({key.split(".")[-3] for key in tensors})}
        (Path(folder) / "adapter_config.json").write_text(json.dumps(settings))
        adapter = open_adapter(folder)
        return adapter, decompose(adapter)


def random_examples(count: int, vocabulary: int, *, prompt: int, spread: int, answer: int) -> list[Example]:
    """Rows of random tokens: prompts of `prompt` tokens, give or take `spread`, and answers of `answer`."""
    rng = np.random.default_rng(1)
    examples = []
    for index in range(count):
        asked = rng.integers(1, vocabulary, size=int(rng.integers(prompt - spread, prompt + spread + 1)))
        told = rng.integers(1, vocabulary, size=answer)
        examples.append(Example(str(index), tuple(asked.tolist()), tuple(told.tolist()), ""))
    return examples
