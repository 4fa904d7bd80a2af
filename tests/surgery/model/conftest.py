"""Models of several families with an adapter that peft trained, and variants of it."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from surgery.adapter import open_adapter
from surgery.edits import Edit, ModuleEdit
from surgery.errors import BaseModelError
from surgery.export import export
from surgery.model import (
    LiveModel,
    Variant,
    load_base,
)
from surgery.spectra import decompose
from tests.helpers.models import (
    EOS,
    LLAMA_TARGETS,
    PAD,
    VOCABULARY,
    loaded_base,
    often_ending,
    save_model,
    tiny_llama,
    with_peft,
)
from tests.helpers.rounding import assert_clear_choice

LIMIT = 9
TINY = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
}
HEADS = {**TINY, "head_dim": 8}
# windows narrower than the prompts
SLIDING = {**HEADS, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
OTHERS = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "initializer_range": 0.3,
    "eos_token_id": EOS,
    "pad_token_id": PAD,
}
EXPERTS = {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"], "r": 2}


@dataclass(frozen=True, repr=False)
class Family:
    """A model to build and what to adapt in it."""

    architecture: str
    config: str
    settings: Mapping[str, Any]
    lora: Mapping[str, Any]
    factor: float = 3.0  # how much likelier than the other tokens the end of sequence is made

    def model(self) -> Any:
        """The same random weights on every call."""
        torch.manual_seed(0)
        made = getattr(transformers, self.architecture)(getattr(transformers, self.config)(**self.settings))
        return often_ending(made.requires_grad_(False).eval(), self.factor)


def family(name: str, values: Mapping[str, Any], *, config: str = "", factor: float = 3.0, **lora: Any) -> Family:
    adapted = {"target_modules": LLAMA_TARGETS, **lora}
    return Family(f"{name}ForCausalLM", f"{config or name}Config", values, adapted, factor)


FAMILIES = {
    "llama": family("Llama", {**TINY, "tie_word_embeddings": False}),
    "qwen2": family("Qwen2", TINY, factor=6.0),
    "qwen3": family("Qwen3", HEADS),
    "gemma2 with a window": family("Gemma2", SLIDING),
    "gemma3 with a window": family("Gemma3", SLIDING, config="Gemma3Text"),
    "gpt2": Family(
        "GPT2LMHeadModel",
        "GPT2Config",
        {
            "vocab_size": VOCABULARY,
            "n_embd": 16,
            "n_inner": 24,
            "n_layer": 2,
            "n_head": 2,
            "n_positions": 64,
            "initializer_range": 0.3,
            "bos_token_id": 1,
            "eos_token_id": EOS,
            "pad_token_id": PAD,
        },
        {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True},
    ),
    "bloom": Family(
        "BloomForCausalLM",
        "BloomConfig",
        {**OTHERS, "n_layer": 2, "n_head": 2},
        {"target_modules": ["query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"]},
    ),
    # flattens rows and tokens before its MLP
    "opt": Family(
        "OPTForCausalLM",
        "OPTConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 16,
            "ffn_dim": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 16,
            "init_std": 0.3,
            "eos_token_id": EOS,
            "pad_token_id": PAD,
        },
        {"target_modules": ["q_proj", "v_proj", "fc1", "fc2"]},
    ),
    "mixtral experts": family(
        "Mixtral", {**TINY, "num_local_experts": 4}, **{**EXPERTS, "target_modules": ["q_proj", "o_proj"]}
    ),
    "embedding and head": family(
        "Llama", {**TINY, "tie_word_embeddings": False}, target_modules=["embed_tokens", "lm_head", "v_proj"]
    ),
    "replicated layers": family(
        "Llama", {**TINY, "tie_word_embeddings": False}, layer_replication=[[0, 2], [1, 2]]
    ),
    # a convolution over tokens and its own kind of cache in one layer, attention in the other
    "lfm2": Family(
        "Lfm2ForCausalLM",
        "Lfm2Config",
        {**TINY, "layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
        {"target_modules": ["q_proj", "v_proj", "w1", "w2", "in_proj", "out_proj"]},
    ),
}
FALLS_BACK = {"opt", "mixtral experts"}


@dataclass(frozen=True, repr=False)
class Trained:
    """A family's adapter, its variants, and the folder of each as peft would load it."""

    name: str
    family: Family
    folder: Path
    variants: Mapping[str, Variant | None]
    folders: Mapping[str, Path]
    references: dict[str, Any] = field(default_factory=dict)

    def live(self, model: Any = None) -> LiveModel:
        adapter = open_adapter(self.folder)
        return LiveModel(loaded_base(model or self.family.model()), adapter, decompose(adapter))

    def reference(self, variant: str) -> Any:
        """peft's own model of a variant, made once and not to be changed."""
        if variant not in self.references:
            self.references[variant] = with_peft(self.family.model(), self.folders[variant])
        return self.references[variant]


def train(case: Family, folder: Path) -> Path:
    lora = {"r": 4, "lora_alpha": 6, "lora_dropout": 0.0, "task_type": "CAUSAL_LM", **case.lora}
    adapted = get_peft_model(case.model(), LoraConfig(**lora))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    adapted.save_pretrained(folder)
    return folder


def made(name: str, case: Family, folder: Path) -> Trained:
    adapter = open_adapter(train(case, folder / "adapter"))
    spectra = decompose(adapter)
    rng = np.random.default_rng(3)

    def edit(within: str = "", gains: tuple[float, ...] = (0.0, 0.4, 2.5)) -> Edit:
        modules = {}
        for module, spectrum in spectra.items():
            if within in module:
                gain = rng.choice(gains, size=spectrum.rank)
                modules[module] = ModuleEdit(gain, spectrum.sigma, gain * spectrum.sigma)
        return Edit(modules)

    first = next(iter(spectra))
    edits = {
        "all": edit(),
        "unedited": None,
        "one": edit(first),
        "same": edit(gains=(1.0,)),
        "gentle": edit("", (0.7,)),
    }
    folders = {
        n: adapter_folder if e is None else export(adapter, spectra, e, folder / n).folder
        for n, e in edits.items()
        for adapter_folder in (folder / "adapter",)
    }
    variants = {n: e and e.sigma_after for n, e in edits.items()}
    return Trained(name, case, folder / "adapter", variants, folders)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Callable[[str], Trained]:
    found: dict[str, Trained] = {}

    def get(name: str) -> Trained:
        if name not in found:
            found[name] = made(name, FAMILIES[name], tmp_path_factory.mktemp("adapter"))
        return found[name]

    return get


@pytest.fixture(params=FAMILIES)
def case(request, trained) -> Trained:
    return trained(request.param)


@pytest.fixture
def llama(trained) -> Trained:
    return trained("llama")


@pytest.fixture
def live(llama):
    with llama.live() as attached:
        yield attached


def prompts_of(count: int, seed: int = 0, longest: int = 14) -> list[tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    return [tuple(rng.integers(6, VOCABULARY, size=rng.integers(1, longest)).tolist()) for _ in range(count)]


def requests_of(count: int, seed: int = 0) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    rng = np.random.default_rng(seed)
    contexts = prompts_of(count, seed)
    return [(c, tuple(rng.integers(6, VOCABULARY, size=rng.integers(1, 5)).tolist())) for c in contexts]


def generated(model, prompt, limit=LIMIT) -> list[int]:
    """What transformers' own `generate` writes after one prompt, without its end of sequence."""
    ids = torch.tensor([prompt])
    with torch.no_grad():
        output = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=limit,
            do_sample=False,
            pad_token_id=PAD,
            eos_token_id=EOS,
            output_logits=True,
            return_dict_in_generate=True,
        )
    assert_clear_choice(model, torch.stack(output.logits))
    row = output.sequences[0, ids.shape[1] :].tolist()
    return row[: row.index(EOS)] if EOS in row else row


def forwards(live, monkeypatch, when=lambda rows, tokens: False) -> list[tuple[int, int]]:
    """Rows and tokens of every forward pass from now on; those for which `when` holds run out of memory."""
    assert live.way  # found before, so that its passes are not among them
    seen = []
    forward = live.model.forward

    def spy(*arguments, **options):
        shape = tuple(options["input_ids"].shape)
        seen.append(shape)
        if when(*shape):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(*arguments, **options)

    monkeypatch.setattr(live.model, "forward", spy)
    return seen


@pytest.fixture(autouse=True)
def home_of_bases(tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def saved_base(tmp_path_factory):
    """A base folder that no test changes."""
    return save_model(tiny_llama(), tmp_path_factory.mktemp("bases") / "base")


@pytest.fixture
def folder(saved_base, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(saved_base, tmp_path / "base")


def refused_base(*arguments, function=load_base, **options) -> str:
    with pytest.raises(BaseModelError) as caught:
        function(*map(str, arguments), **options)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.problem
    assert caught.value.remedy
    return str(caught.value)
