"""PiSSA, OLoRA, CorDA, LoRA-GA and LoftQ, initialised and trained by PEFT, against the model that was trained."""

import copy
import json
import sys

import numpy as np
import peft
import pytest
import torch
from peft.tuners.lora.config import CordaConfig, LoraGAConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.loraga import preprocess_loraga
from safetensors.torch import load_file, save_file

from surgery.adapter import open_adapter
from surgery.conversion import ConversionPlan, convert
from surgery.edits import make_edit
from surgery.errors import AdapterError, BaseModelError
from surgery.export import export
from surgery.model import BaseChoice
from surgery.policies import Rank
from surgery.spectra import decompose
from tests.helpers.models import moved, relative, save_model, tiny_llama
from tests.helpers.refusals import refusal
from tests.surgery.conversion.conftest import IDS, adapted

TARGETS = ["q_proj", "down_proj"]


def started(start, **more):
    """PEFT's model as this initialisation leaves it, before training."""
    base = tiny_llama()
    settings = {"r": 4, "lora_alpha": 6, "target_modules": TARGETS, "init_lora_weights": start, **more}
    if start == "corda":
        config = peft.LoraConfig(corda_config=CordaConfig(corda_method="kpm"), **settings)
        preprocess_corda(base, config, run_model=lambda: base(IDS))
    elif start == "lora_ga":
        config = peft.LoraConfig(lora_ga_config=LoraGAConfig(), **settings)

        def train_step():
            base(IDS, labels=IDS).loss.backward()

        base.requires_grad_(True)
        preprocess_loraga(base, config, train_step)
        base.requires_grad_(False)
    else:
        config = peft.LoraConfig(**settings)
    return peft.get_peft_model(base, config).eval()


@pytest.fixture
def trained(tmp_path):
    """(logits, residual base) of a trained adapter; `initial` and `source` are saved before and after training."""

    def make(start, **more):
        model = started(start, **more)
        model.save_pretrained(tmp_path / "initial")
        moved(model, by=0.05)
        model.save_pretrained(tmp_path / "source")
        with torch.no_grad():
            logits = model(IDS).logits
        save_model(copy.deepcopy(model).unload(), tmp_path / "residual")
        return model, logits

    return make


def logits(folder, base=None):
    with torch.no_grad():
        return peft.PeftModel.from_pretrained(copy.deepcopy(base or tiny_llama()), folder).eval()(IDS).logits


STARTS = ["pissa", "pissa_niter_4", "olora", "corda", "lora_ga"]
# PEFT keeps the residual in float32: one rounding of every weight
FLOAT32 = 1e-4


@pytest.mark.parametrize("start", STARTS)
def test_an_adapter_of_a_changed_base_is_refused_with_its_ways_out(start, trained, tmp_path):
    trained(start)
    message = refusal(AdapterError, open_adapter, tmp_path / "source")
    assert "surgery convert ADAPTER --out NEW" in message
    assert ("--base" in message.replace("--residual-base", "")) == (start in ("pissa", "olora"))
    assert "--initial" in message
    assert "--residual-base" in message


@pytest.mark.parametrize("start", STARTS)
def test_with_the_initial_adapter_it_is_a_lora_of_twice_the_rank_on_the_base_as_it_was(start, trained, tmp_path):
    _, expected = trained(start)
    plan = ConversionPlan(str(tmp_path / "source"), initial=str(tmp_path / "initial"))
    done = convert(plan, tmp_path / "out")
    assert relative(logits(done.folder), expected) < FLOAT32
    assert done.error < 1e-7
    assert {factors.rank for factors in open_adapter(done.folder).modules.values()} == {8}


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_with_the_base_the_first_factors_are_found_again(start, trained, base_folder, tmp_path):
    _, expected = trained(start)
    done = convert(ConversionPlan(str(tmp_path / "source"), BaseChoice(str(base_folder))), tmp_path / "out")
    assert relative(logits(done.folder), expected) < FLOAT32
    assert done.logits.error < FLOAT32


@pytest.mark.parametrize("start", ["pissa_niter_4", "corda", "lora_ga"])
def test_the_base_alone_is_refused_where_the_initialisation_is_not_the_same_again(
    start, trained, base_folder, tmp_path
):
    trained(start)
    plan = ConversionPlan(str(tmp_path / "source"), BaseChoice(str(base_folder)))
    message = refusal(AdapterError, convert, plan, tmp_path / "out")
    assert "cannot start from --base" in message
    assert "--initial or --residual-base" in message


@pytest.mark.parametrize("start", STARTS)
def test_on_the_residual_base_the_same_bytes_open_and_an_edit_of_them_is_the_edit_in_peft(
    start, trained, tmp_path
):
    model, expected = trained(start)
    residual = model.unload()
    plan = ConversionPlan(str(tmp_path / "source"), residual_base=BaseChoice(str(tmp_path / "residual")))
    done = convert(plan, tmp_path / "out")
    before, after = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("source", "out"))
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    assert relative(logits(done.folder, residual), expected) < 1e-6
    adapter = open_adapter(done.folder)
    assert adapter.base_name == str(tmp_path / "residual")
    spectra = decompose(adapter)
    edit = make_edit(spectra, Rank(keep=2), scope="all")
    export(adapter, spectra, edit, tmp_path / "edited")
    merged = copy.deepcopy(residual)
    with torch.no_grad():
        for name, spectrum in spectra.items():
            delta = (spectrum.U * edit.modules[name].sigma_after) @ spectrum.V.T
            merged.get_submodule(name).weight += torch.from_numpy(delta).float()
        assert relative(logits(tmp_path / "edited", residual), merged(IDS).logits) < FLOAT32


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_peft_gives_the_residual_base_back_of_an_adapter_that_is_loaded_again(start, trained, tmp_path):
    _, expected = trained(start)
    residual = peft.PeftModel.from_pretrained(tiny_llama(), tmp_path / "source").unload()
    save_model(residual, tmp_path / "again")
    plan = ConversionPlan(str(tmp_path / "source"), residual_base=BaseChoice(str(tmp_path / "again")))
    done = convert(plan, tmp_path / "out")
    assert relative(logits(done.folder, residual), expected) < FLOAT32


@pytest.mark.parametrize(
    "more",
    [
        {"use_rslora": True},
        {"rank_pattern": {"down_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 3}},
        {"use_rslora": True, "rank_pattern": {"down_proj": 2}, "alpha_pattern": {"q_proj": 3}},
    ],
)
def test_scalings_and_patterns_stay_at_twice_the_rank(more, trained, tmp_path):
    _, expected = trained("pissa", **more)
    plan = ConversionPlan(str(tmp_path / "source"), initial=str(tmp_path / "initial"))
    done = convert(plan, tmp_path / "out")
    assert relative(logits(done.folder), expected) < FLOAT32
    assert done.error < 1e-7


@pytest.mark.parametrize("start", STARTS)
def test_what_pefts_own_conversion_saves_opens_and_is_the_same_update(start, trained, tmp_path):
    model, _ = trained(start)
    ours = convert(ConversionPlan(str(tmp_path / "source"), initial=str(tmp_path / "initial")), tmp_path / "out")
    model.save_pretrained(tmp_path / "theirs", path_initial_model_for_weight_conversion=str(tmp_path / "initial"))
    one, other = (decompose(open_adapter(folder)) for folder in (ours.folder, tmp_path / "theirs"))
    for name, spectrum in one.items():
        assert spectrum.sigma == pytest.approx(other[name].sigma, rel=1e-5, abs=1e-6)


def quantised(start="loftq"):
    """What LoftQ leaves: a coarse base that B₀·A₀ brings nearer to the base. PEFT's own needs an accelerator."""
    base = tiny_llama()
    model = adapted(peft.LoraConfig(r=4, lora_alpha=4, target_modules=TARGETS), base)
    with torch.no_grad():
        for name, layer in model.base_model.model.named_modules():
            if not hasattr(layer, "lora_A"):
                continue
            weight = layer.get_base_layer().weight
            step = weight.abs().max() / 7
            coarse = (weight / step).round() * step
            U, S, Vh = torch.linalg.svd(weight - coarse)
            layer.lora_B["default"].weight.copy_(U[:, :4] * S[:4].sqrt())
            layer.lora_A["default"].weight.copy_(S[:4].sqrt()[:, None] * Vh[:4])
            weight.copy_(coarse)
            assert name
    return model


def test_loftq_is_exact_on_the_base_that_peft_unloads_and_on_no_other(base_folder, tmp_path):
    model = moved(quantised(), by=0.05)
    model.save_pretrained(tmp_path / "source")
    file = tmp_path / "source" / "adapter_config.json"
    config = json.loads(file.read_text()) | {"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}
    file.write_text(json.dumps(config))
    with torch.no_grad():
        expected = model(IDS).logits
    message = refusal(AdapterError, open_adapter, tmp_path / "source")
    assert "--residual-base FOLDER, the model that it was trained on as peft's unload() gives it back" in message
    assert "--initial" not in message
    plan = ConversionPlan(str(tmp_path / "source"), BaseChoice(str(base_folder)), initial=str(tmp_path / "source"))
    assert "cannot start from --base and --initial" in refusal(AdapterError, convert, plan, tmp_path / "out")
    residual = model.unload()
    save_model(residual, tmp_path / "residual")
    plan = ConversionPlan(str(tmp_path / "source"), residual_base=BaseChoice(str(tmp_path / "residual")))
    done = convert(plan, tmp_path / "out")
    assert relative(logits(done.folder, residual), expected) < 1e-6


def test_the_base_that_training_started_from_is_no_residual_base(trained, base_folder, tmp_path):
    trained("pissa")
    file = tmp_path / "source" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": str(base_folder)}))
    plan = ConversionPlan(str(tmp_path / "source"), residual_base=BaseChoice(str(base_folder)))
    assert "training started from" in refusal(AdapterError, convert, plan, tmp_path / "out")


def test_a_base_that_pissa_did_not_change_is_told_from_the_one_it_left(trained, base_folder, tmp_path):
    trained("pissa")
    for base, notes in ((base_folder, 1), (tmp_path / "residual", 0)):
        plan = ConversionPlan(str(tmp_path / "source"), residual_base=BaseChoice(str(base)))
        done = convert(plan, tmp_path / f"out-{notes}")
        assert len(done.notes) == notes
        assert all("looks like the base before PiSSA changed it" in note for note in done.notes)


def test_a_module_that_the_config_names_is_not_imported(trained, base_folder, tmp_path):
    trained("pissa")
    file = tmp_path / "source" / "adapter_config.json"
    hostile = {"megatron_config": {"a": 1}, "megatron_core": "antigravity"}
    file.write_text(json.dumps(json.loads(file.read_text()) | hostile))
    plan = ConversionPlan(str(tmp_path / "source"), BaseChoice(str(base_folder)))
    assert "megatron_config" in refusal(AdapterError, convert, plan, tmp_path / "out")
    assert "antigravity" not in sys.modules


def test_a_base_that_does_not_fit_is_refused_and_nothing_is_written(trained, tmp_path):
    trained("pissa")
    other = save_model(tiny_llama(num_hidden_layers=1), tmp_path / "other")
    plan = ConversionPlan(str(tmp_path / "source"), residual_base=BaseChoice(str(other)))
    assert "name the base model that this adapter was trained on" in refusal(
        BaseModelError, convert, plan, tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_an_initial_adapter_that_is_not_this_ones_is_refused(trained, tmp_path):
    trained("pissa")
    plan = ConversionPlan(str(tmp_path / "source"), initial=str(tmp_path / "source"))
    assert "has the factors of the trained one" in refusal(AdapterError, convert, plan, tmp_path / "out")
    file = tmp_path / "initial" / "adapter_model.safetensors"
    save_file({key: tensor[:2].contiguous() for key, tensor in load_file(file).items()}, file)
    plan = ConversionPlan(str(tmp_path / "source"), initial=str(tmp_path / "initial"))
    assert "same shape" in refusal(AdapterError, convert, plan, tmp_path / "out")


def test_half_precision_stays_and_the_error_is_that_of_its_rounding(trained, tmp_path):
    trained("pissa")
    for name in ("source", "initial"):
        file = tmp_path / name / "adapter_model.safetensors"
        save_file({key: tensor.half() for key, tensor in load_file(file).items()}, file)
    plan = ConversionPlan(str(tmp_path / "source"), initial=str(tmp_path / "initial"))
    done = convert(plan, tmp_path / "out")
    assert {np.dtype(t.dtype).name for t in open_adapter(done.folder).tensors.values()} == {"float16"}
    assert done.error < 1e-12
