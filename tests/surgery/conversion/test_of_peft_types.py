"""LoHa, LoKr, VeRA and the others: PEFT's own model of the source against PEFT's own model of the LoRA."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import MambaConfig, MambaForCausalLM

from surgery.adapter import CONVERTIBLE, open_adapter
from surgery.conversion import ConversionPlan, convert
from surgery.errors import AdapterError, BaseModelError
from surgery.model import BaseChoice
from tests.helpers.models import moved, relative, save_model, tiny_gpt2, tiny_llama
from tests.helpers.refusals import refusal
from tests.helpers.seq2seq import KINDS
from tests.surgery.conversion.conftest import IDS, adapted

TWO = ["q_proj", "down_proj"]
CONFIGS = {
    "LOHA": lambda: peft.LoHaConfig(r=2, alpha=4, target_modules=TWO),
    "LOKR": lambda: peft.LoKrConfig(r=2, alpha=4, target_modules=TWO),
    "VERA": lambda: peft.VeraConfig(r=4, target_modules=["q_proj"]),
    "FOURIERFT": lambda: peft.FourierFTConfig(n_frequency=20, target_modules=TWO),
    "RANDLORA": lambda: peft.RandLoraConfig(r=4, target_modules=["q_proj"]),
    "C3A": lambda: peft.C3AConfig(block_size=8, target_modules=["q_proj"]),
    "DELORA": lambda: peft.DeloraConfig(r=4, target_modules=TWO),
    "GRALORA": lambda: peft.GraloraConfig(r=4, gralora_k=2, target_modules=TWO),
    "MISS": lambda: peft.MissConfig(r=4, target_modules=TWO),
    "PSOFT": lambda: peft.PsoftConfig(r=4, target_modules=TWO),
    "TINYLORA": lambda: peft.TinyLoraConfig(r=2, u=4, target_modules=TWO),
    "UNILORA": lambda: peft.UniLoraConfig(r=4, theta_d_length=64, target_modules=TWO),
    "VBLORA": lambda: peft.VBLoRAConfig(
        r=4, num_vectors=16, vector_length=8, topk=2, target_modules=["q_proj", "v_proj"]
    ),
    "WAVEFT": lambda: peft.WaveFTConfig(n_frequency=20, target_modules=TWO),
}


def saved(config, folder):
    # a step of RandLoRA's few numbers moves its update a thousandfold, and rounding with it
    model = moved(adapted(config), by=0.001 if config.peft_type == "RANDLORA" else 0.1)
    model.save_pretrained(folder)
    with torch.no_grad():
        return model, model(IDS).logits


def update(layer):
    """ΔW (out, in) by what the layer adds to its inputs, one unit vector after the other."""
    inner = layer.get_base_layer()
    unit = torch.eye(inner.in_features)
    with torch.no_grad():
        return (layer(unit) - inner(unit)).double().T.numpy()


def logits(folder):
    with torch.no_grad():
        return peft.PeftModel.from_pretrained(tiny_llama(), folder).eval()(IDS).logits


@pytest.mark.parametrize("kind", CONFIGS)
def test_the_lora_of_every_type_gives_its_logits_and_says_how_far_its_updates_are(kind, base_folder, tmp_path):
    model, expected = saved(CONFIGS[kind](), tmp_path / "source")
    base = BaseChoice(str(base_folder))
    done = convert(ConversionPlan(str(tmp_path / "source"), base, energy=1.0), tmp_path / "out")
    assert done.kind == kind
    # one rounding to float32 of ΔW, and PEFT's decomposition in float32
    assert done.error < 1e-5
    assert done.logits.error < 1e-4
    assert relative(logits(done.folder), expected) < 1e-4
    opened = open_adapter(done.folder)
    assert set(opened.modules) == set(done.modules)
    for name, factors in opened.modules.items():
        exact = update(model.base_model.model.get_submodule(name))
        made = factors.scaling * (factors.B.astype(np.float64) @ factors.A)
        assert relative(made, exact) < 1e-5
        assert done.modules[name].norm == pytest.approx(np.linalg.norm(exact), rel=1e-5)


@pytest.mark.parametrize("energy", [0.5, 0.9])
def test_the_rank_holds_the_energy_asked_for_and_the_error_is_what_is_left(energy, base_folder, tmp_path):
    model, _ = saved(CONFIGS["LOKR"](), tmp_path / "source")
    plan = ConversionPlan(str(tmp_path / "source"), BaseChoice(str(base_folder)), energy=energy)
    done = convert(plan, tmp_path / "out")
    for name, module in done.modules.items():
        delta = model.base_model.model.get_submodule(name).get_delta_weight("default").detach().double()
        sigma = torch.linalg.svdvals(delta).numpy()
        kept = (sigma[: module.rank] ** 2).sum() / (sigma**2).sum()
        assert kept >= energy - 1e-6
        assert (sigma[: module.rank - 1] ** 2).sum() / (sigma**2).sum() < energy
        assert module.error == pytest.approx(np.sqrt((sigma[module.rank :] ** 2).sum()), rel=1e-3)
    assert len({module.rank for module in done.modules.values()}) >= 1
    assert 1 - done.error**2 >= energy - 1e-6


def test_a_rank_is_that_of_every_module_and_one_too_large_is_refused(base_folder, tmp_path):
    saved(CONFIGS["LOHA"](), tmp_path / "source")
    base = BaseChoice(str(base_folder))
    done = convert(ConversionPlan(str(tmp_path / "source"), base, rank=3), tmp_path / "out")
    assert {module.rank for module in done.modules.values()} == {3}
    assert {factors.rank for factors in open_adapter(done.folder).modules.values()} == {3}
    plan = ConversionPlan(str(tmp_path / "source"), base, rank=33)
    message = refusal(AdapterError, convert, plan, tmp_path / "more")
    assert "give at most 32" in message
    done = convert(ConversionPlan(str(tmp_path / "source"), base, rank=32), tmp_path / "most")
    assert done.error < 1e-5


def test_saved_modules_and_exclusions_are_kept(base_folder, tmp_path):
    config = peft.LoHaConfig(r=2, target_modules=["q_proj"], exclude_modules=["layers.0.self_attn.q_proj"])
    config.modules_to_save = ["lm_head"]
    _, expected = saved(config, tmp_path / "source")
    plan = ConversionPlan(str(tmp_path / "source"), BaseChoice(str(base_folder)), energy=1.0)
    done = convert(plan, tmp_path / "out")
    assert relative(logits(done.folder), expected) < 1e-4
    assert len(done.modules) == 2


@pytest.mark.parametrize("kind", ["VERA", "RANDLORA", "TINYLORA", "UNILORA", "VBLORA", "GRALORA"])
def test_gpt2s_transposed_layers_are_converted_as_they_lie(kind, tmp_path):
    base, config = tiny_gpt2(), CONFIGS[kind]()
    config.target_modules = ["c_fc"]
    if hasattr(config, "fan_in_fan_out"):
        config.fan_in_fan_out = True
    model = moved(adapted(config, base))
    model.save_pretrained(tmp_path / "source")
    save_model(base, tmp_path / "base")
    plan = ConversionPlan(str(tmp_path / "source"), BaseChoice(str(tmp_path / "base")), energy=1.0)
    done = convert(plan, tmp_path / "out")
    with torch.no_grad():
        found = peft.PeftModel.from_pretrained(tiny_gpt2(), done.folder).eval()(IDS).logits
        assert relative(found, model(IDS).logits) < 1e-4
    assert done.error < 1e-5


def test_the_base_is_asked_for_by_the_name_that_the_config_gives(base_folder, tmp_path):
    saved(CONFIGS["VERA"](), tmp_path / "source")
    message = refusal(AdapterError, convert, ConversionPlan(str(tmp_path / "source")), tmp_path / "out")
    assert "give --base" in message
    given = ConversionPlan(str(tmp_path / "source"), BaseChoice(str(base_folder)), initial=str(tmp_path))
    message = refusal(AdapterError, convert, given, tmp_path / "out")
    assert "cannot start from --initial" in message
    other = save_model(tiny_llama(num_hidden_layers=1), tmp_path / "other")
    plan = ConversionPlan(str(tmp_path / "source"), BaseChoice(str(other)))
    assert "no place" in refusal(BaseModelError, convert, plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_types_that_peft_cannot_convert_are_refused_with_the_reason(base_folder, tmp_path):
    for config in (
        peft.IA3Config(target_modules=["k_proj"], feedforward_modules=[]),
        peft.HiraConfig(r=2, target_modules=["q_proj"]),
        peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"),
    ):
        model = adapted(config)
        folder = tmp_path / str(config.peft_type.value)
        model.save_pretrained(folder)
        plan = ConversionPlan(str(folder), BaseChoice(str(base_folder)))
        assert "neither this nor PEFT can turn" in refusal(AdapterError, convert, plan, tmp_path / "out")


def test_a_layer_that_is_not_linear_is_refused_by_its_kind(tmp_path):
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "state_size": 4}
    base = MambaForCausalLM(MambaConfig(**sizes))
    model = moved(adapted(peft.LoHaConfig(r=2, target_modules=["conv1d", "in_proj"]), base))
    model.save_pretrained(tmp_path / "source")
    save_model(base, tmp_path / "base")
    plan = ConversionPlan(str(tmp_path / "source"), BaseChoice(str(tmp_path / "base")))
    message = refusal(AdapterError, convert, plan, tmp_path / "out")
    assert "conv1d" in message
    assert "around Conv1d" in message
    # the remedy: an adapter of linear layers
    model = moved(adapted(peft.LoHaConfig(r=2, target_modules=["in_proj"]), base))
    model.save_pretrained(tmp_path / "linear")
    plan = ConversionPlan(str(tmp_path / "linear"), BaseChoice(str(tmp_path / "base")))
    assert len(convert(plan, tmp_path / "out").modules) == 1


def test_a_lora_is_refused_because_it_opens_as_it_is(small_adapter, tmp_path):
    message = refusal(AdapterError, convert, ConversionPlan(str(small_adapter)), tmp_path / "out")
    assert "open it as it is" in message
    open_adapter(small_adapter)


def test_the_types_are_those_whose_layers_peft_says_it_can_convert():
    found = set()
    for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items():
        layers = f"{tuner.__module__.rpartition('.')[0]}.layer"
        if importlib.util.find_spec(layers) is None:
            continue  # no layers around a model's own, as prompts have none
        for layer in vars(importlib.import_module(layers)).values():
            if not (isinstance(layer, type) and issubclass(layer, BaseTunerLayer)):
                continue
            # a layer of its own is not needed for the answer, only what it wraps
            about = SimpleNamespace(get_base_layer=lambda: nn.Linear(2, 2), lora_variant={})
            if layer.supports_lora_conversion(about, "default"):
                found.add(kind.value)
    assert found - {"LORA", "ADALORA", "XLORA"} == set(CONVERTIBLE)


def test_an_adapter_of_an_encoder_and_a_decoder_is_converted_on_its_own_base(tmp_path):
    kind = KINDS["t5"]
    base = save_model(kind(), tmp_path / "base", kind.tokenizer())
    config = peft.LoHaConfig(r=2, alpha=4, target_modules=["q", "wo"], task_type="SEQ_2_SEQ_LM")
    model = moved(peft.get_peft_model(kind(), config))
    model.save_pretrained(tmp_path / "loha")
    found = convert(ConversionPlan(str(tmp_path / "loha"), BaseChoice(str(base)), energy=1.0), tmp_path / "lora")
    ids = torch.tensor([[4, 5, 6, 1], [7, 4, 1, 0]])
    converted = peft.PeftModel.from_pretrained(kind(), str(found.folder)).eval()
    with torch.no_grad():
        was, now = (each(input_ids=ids, decoder_input_ids=ids).logits for each in (model.eval(), converted))
    assert relative(now, was) < 1e-5
    assert open_adapter(found.folder).task == "SEQ_2_SEQ_LM"
