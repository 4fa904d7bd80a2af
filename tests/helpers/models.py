"""Tiny models, tokenizers and adapters made offline, and slow reference forwards to compare with.

Only plain records of the code under test are used here: adapters are written and merged by peft
itself, spectra come from the dense update, and losses from one unpadded example at a time.
"""

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedTokenizerFast,
)

from surgery.data import Example
from surgery.model import LoadedBase
from tests.helpers.gguf_files import add_tokens, begin, finish
from tests.helpers.rounding import assert_clear_choice

UNK, BOS, EOS, PAD, USER, ASSISTANT = range(6)
_SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", "<u>", "<a>"]
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 +=?.,:ABCDE"
_CHAT = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}<a>{{ message['content'] }}</s>"
    "{% else %}<u>{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
VOCABULARY = 64
LLAMA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
GPT2_TARGETS = ("c_attn", "c_proj", "c_fc")


def tiny_llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    """Three random layers, with weights large enough that the loss is far from linear in the update."""
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**{**settings, **changes})).requires_grad_(False).eval()


def tiny_gpt2(seed: int = 0, **changes: Any) -> GPT2LMHeadModel:
    """GPT-2 keeps its weights transposed (Conv1D), has biases and dropout, and ties its embeddings."""
    settings = {
        "vocab_size": VOCABULARY,
        "n_embd": 32,
        "n_inner": 48,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 256,
        "initializer_range": 0.2,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }
    torch.manual_seed(seed)
    return GPT2LMHeadModel(GPT2Config(**{**settings, **changes})).requires_grad_(False).eval()


def tiny_mixtral(seed: int = 0) -> MixtralForCausalLM:
    """Two random layers of three experts each, whose weights one module keeps."""
    torch.manual_seed(seed)
    config = MixtralConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_local_experts=3,
        num_experts_per_tok=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        initializer_range=0.2,
        pad_token_id=PAD,
    )
    return MixtralForCausalLM(config).requires_grad_(False).eval()


def save_expert_by_expert(folder: Path, seed: int = 1) -> Path:
    """An adapter of every expert of `tiny_mixtral` as they were named when each was three modules of its own."""
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for layer in range(2):
        for expert in range(3):
            for name, (out, inside) in {"w1": (24, 16), "w3": (24, 16), "w2": (16, 24)}.items():
                key = f"base_model.model.model.layers.{layer}.block_sparse_moe.experts.{expert}.{name}"
                tensors[f"{key}.lora_A.weight"] = torch.randn(2, inside, generator=generator) * 0.3
                tensors[f"{key}.lora_B.weight"] = torch.randn(out, 2, generator=generator) * 0.3
    targets = ["w1", "w2", "w3"]
    LoraConfig(r=2, lora_alpha=4, target_modules=targets, task_type="CAUSAL_LM").save_pretrained(folder)
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def tiny_tokenizer(*, chat: bool = True, append_eos: bool = False) -> PreTrainedTokenizerFast:
    """One token per character, <s> before plain text; `append_eos` also writes </s> after it."""
    words = {token: i for i, token in enumerate([*_SPECIALS, *_LETTERS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    single = "<s> $A </s>" if append_eos else "<s> $A"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<u>", "<a>"],
        chat_template=_CHAT if chat else None,
    )


def characters(text: str) -> list[int]:
    """The ids that `tiny_tokenizer` gives to plain characters, by hand."""
    return [len(_SPECIALS) + _LETTERS.index(letter) for letter in text]


def loaded_base(
    model: Any, tokenizer: Any = None, fingerprint: str = "tiny", task: str = "CAUSAL_LM"
) -> LoadedBase:
    return LoadedBase(
        model, tokenizer if tokenizer is not None else tiny_tokenizer(), "tiny", fingerprint, task=task
    )


def save_model(model: Any, folder: Path, tokenizer: Any = None) -> Path:
    """A base model folder as transformers writes it."""
    model.save_pretrained(folder)
    (tokenizer if tokenizer is not None else tiny_tokenizer()).save_pretrained(folder)
    return folder


_GGUF_NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def save_gguf(model: LlamaForCausalLM, file: Path, *, description: str = "", merge: str = "a b") -> Path:
    """A Llama as an unquantised GGUF file with a byte-level tokenizer, as llama.cpp lays it out."""
    config, weights = model.config, model.state_dict()
    writer = begin(file, "llama", config)
    writer.add_description(description)
    add_tokens(writer, config.vocab_size, "gpt2", merge=merge)
    tensors = {
        "token_embd": weights["model.embed_tokens.weight"],
        "output": weights["lm_head.weight"],
        "output_norm": weights["model.norm.weight"],
    }
    for layer in range(config.num_hidden_layers):
        for short, long in _GGUF_NAMES.items():
            tensors[f"blk.{layer}.{short}"] = weights[f"model.layers.{layer}.{long}.weight"]
        # llama.cpp rotates neighbours where transformers rotates halves
        for short, heads in (("attn_q", config.num_attention_heads), ("attn_k", config.num_key_value_heads)):
            weight = tensors[f"blk.{layer}.{short}"]
            halves = weight.reshape(heads, 2, -1, config.hidden_size)
            tensors[f"blk.{layer}.{short}"] = halves.swapaxes(1, 2).reshape(weight.shape)
    for name, tensor in tensors.items():
        writer.add_tensor(f"{name}.weight", tensor.contiguous().numpy())
    return finish(writer, file)


def save_adapter(
    model: Any,
    folder: Path,
    *,
    targets: Sequence[str] = LLAMA_TARGETS,
    r: int = 4,
    alpha: float = 8,
    scale: float = 0.2,
    seed: int = 1,
    **config: Any,
) -> Path:
    """A PEFT LoRA with random A and B on a copy of `model`, saved by peft into `folder`."""
    settings = {"lora_dropout": 0.1, "task_type": "CAUSAL_LM", **config}
    lora = LoraConfig(r=r, lora_alpha=alpha, target_modules=list(targets), **settings)
    adapted = get_peft_model(copy.deepcopy(model), lora)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    adapted.save_pretrained(folder)
    return folder


def moved(model: Any, *, seed: int = 1, by: float = 0.1) -> Any:
    """The model with every trained parameter moved, as a training would."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * by)
    return model


def with_peft(model: Any, folder: Path) -> PeftModel:
    """peft's own forward: the adapter on a copy of `model`, in the model's dtype."""
    dtype = next(model.parameters()).dtype
    return PeftModel.from_pretrained(copy.deepcopy(model), folder).to(dtype).eval()


def merged(model: Any, folder: Path) -> Any:
    """A plain model whose weights hold the update, merged by peft in the model's dtype."""
    return with_peft(model, folder).merge_and_unload().requires_grad_(False)


def random_weights(model: Any) -> Any:
    """The model frozen, its matrices random and of the size that keeps activations as they are."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) / weight.shape[-1] ** 0.5)
    return model.requires_grad_(False).eval()


def double(model: Any) -> Any:
    """A float64 copy. RMSNorm is swapped because transformers' own computes in float32 in any model."""
    model = copy.deepcopy(model)
    for name, layer in list(model.named_modules()):
        if type(layer).__name__.endswith(("RMSNorm", "T5LayerNorm")):
            exact = torch.nn.RMSNorm(layer.weight.numel(), eps=layer.variance_epsilon)
            exact.weight = layer.weight
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, exact)
    return model.double().requires_grad_(False).eval()


def singular_triplets(model: Any, folder: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """U, σ, V of every update by the SVD of the dense ΔW = (out, in) that peft forms, in float64."""
    triplets = {}
    for name, layer in with_peft(copy.deepcopy(model).double(), folder).named_modules():
        if isinstance(layer, LoraLayer):
            delta = layer.get_delta_weight("default").detach()
            if is_transposed(layer.get_base_layer()):
                delta = delta.T
            U, sigma, Vh = torch.linalg.svd(delta, full_matrices=False)
            rank = layer.r["default"]
            triplets[name.removeprefix("base_model.model.")] = (U[:, :rank], sigma[:rank], Vh[:rank].T)
    return triplets


def is_transposed(layer: Any) -> bool:
    """GPT-2's Conv1D keeps (in, out)."""
    return type(layer).__name__ == "Conv1D"


def example_loss(model: Any, example: Example) -> torch.Tensor:
    """Mean answer-token loss of one example alone, with no padding, in the model's dtype."""
    ids = torch.tensor([[*example.prompt_ids, *example.answer_ids]])
    log_probabilities = model(input_ids=ids).logits[0].log_softmax(-1)
    first = len(example.prompt_ids) - 1
    picked = [log_probabilities[first + i, token] for i, token in enumerate(example.answer_ids)]
    return -torch.stack(picked).mean()


def greedy_tokens(model: Any, prompt: Iterable[int], limit: int, stop: Iterable[int] = (EOS,)) -> list[int]:
    """Arg-max decoding by hand: no cache, no padding, cut before the first stop token. No choice may be close."""
    ids, chosen, stops = list(prompt), [], set(stop)
    with torch.no_grad():
        for _ in range(limit):
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
            assert_clear_choice(model, logits)
            token = int(logits.argmax())
            if token in stops:
                break
            ids.append(token)
            chosen.append(token)
    return chosen


def often_ending(model: Any, factor: float = 4.0) -> Any:
    """Make the end of sequence likely, so that greedy answers stop at different lengths."""
    with torch.no_grad():
        model.get_output_embeddings().weight[EOS] *= factor
    return model


def random_examples(
    count: int, seed: int = 0, *, longest: int = 12, vocabulary: int = VOCABULARY
) -> list[Example]:
    """Examples of mixed lengths straight from token ids."""
    rng = np.random.default_rng(seed)
    examples = []
    for i in range(count):
        prompt = rng.integers(len(_SPECIALS), vocabulary, size=int(rng.integers(1, longest)))
        answer = rng.integers(len(_SPECIALS), vocabulary, size=int(rng.integers(1, 5)))
        examples.append(Example(f"key {i}", tuple(map(int, prompt)), (*map(int, answer), EOS), f"answer {i}"))
    return examples


def relative(found: Any, expected: Any) -> float:
    """‖found − expected‖ / ‖expected‖ over all entries."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
