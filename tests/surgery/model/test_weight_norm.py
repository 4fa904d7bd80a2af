"""DoRA in the running model against peft's own forward, which makes the norm anew from the factors that it loads."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from surgery.adapter import open_adapter
from surgery.data import Calibration, Encoding, Example
from surgery.edits import Edit, ModuleEdit, preview
from surgery.errors import BaseModelError
from surgery.export import export
from surgery.model import BaseChoice, LiveModel, VariantEngine, attach, is_offloaded
from surgery.model.weight_norm import WeightNorm
from surgery.sensitivity import measure_sensitivity
from surgery.spectra import Spectra, Spectrum, decompose
from tests.helpers.models import (
    GPT2_TARGETS,
    VOCABULARY,
    double,
    example_loss,
    loaded_base,
    random_examples,
    relative,
    save_adapter,
    save_model,
    tiny_gpt2,
    tiny_llama,
    with_peft,
)
from tests.helpers.refusals import refusal
from tests.helpers.rounding import assert_losses, logits_apart

STEP = 1e-5


def biased() -> Any:
    return with_biases(tiny_llama(attention_bias=True, mlp_bias=True))


def gpt2() -> Any:
    return with_biases(tiny_gpt2())


def with_biases(model: Any) -> Any:
    """Models are made with zero biases, which any place in the formula would leave as they are."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def scaled_embeddings() -> Any:
    """A model that multiplies its embeddings by √width after they are looked up."""
    torch.manual_seed(0)
    shape = {"vocab_size": VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "initializer_range": 0.3}
    return Gemma3ForCausalLM(Gemma3TextConfig(**shape, **heads)).requires_grad_(False).eval()


CASES: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "llama": (tiny_llama, {}),
    "llama with biases, patterns and rslora": (
        biased,
        {"use_rslora": True, "rank_pattern": {"o_proj": 6}, "alpha_pattern": {"k_proj": 3}},
    ),
    "llama's embeddings and head": (tiny_llama, {"targets": ("embed_tokens", "lm_head", "v_proj")}),
    "gpt2": (gpt2, {"targets": GPT2_TARGETS, "fan_in_fan_out": True}),
}


def in_float64(folder: Path) -> Path:
    """The adapter with its tensors in float64, so that nothing is rounded to float32 on export."""
    file = folder / "adapter_model.safetensors"
    save_file({key: value.astype(np.float64) for key, value in load_file(file).items()}, file)
    return folder


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory) -> tuple[Callable[[], Any], Path]:
    make, options = CASES[request.param]
    folder = save_adapter(make(), tmp_path_factory.mktemp("adapter"), use_dora=True, **options)
    return make, in_float64(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return in_float64(save_adapter(biased(), tmp_path_factory.mktemp("adapter"), use_dora=True))


def attached(model: Any, folder: Path) -> LiveModel:
    adapter = open_adapter(folder)
    return LiveModel(loaded_base(model), adapter, decompose(adapter))


def logits(model: Any, rows: int = 3) -> np.ndarray:
    ids = torch.randint(VOCABULARY, (rows, 11), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(input_ids=ids).logits.double().numpy()


def random_sigma(spectra: Spectra, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: s.sigma * rng.choice([0.0, 0.5, 1.7], size=s.rank) for name, s in spectra.items()}


def as_edit(spectra: Spectra, after: dict[str, np.ndarray]) -> Edit:
    return Edit({n: ModuleEdit(s / spectra[n].sigma, spectra[n].sigma, s) for n, s in after.items()})


@pytest.mark.parametrize("precise", [False, True])
def test_live_logits_equal_pefts_forward(case, precise):
    make, folder = case
    model = double(make()) if precise else make()
    expected = logits(with_peft(model, folder))
    assert relative(expected, logits(model)) > 0.1, "the update must matter, or equality shows nothing"
    with attached(model, folder) as live:
        assert relative(logits(live.model), expected) < logits_apart(live.model)


@pytest.mark.parametrize("precise", [False, True])
def test_logits_at_edited_sigma_equal_pefts_forward_of_the_export(case, precise, tmp_path):
    make, folder = case
    model = double(make()) if precise else make()
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    sigma = random_sigma(spectra, 1)
    out = export(adapter, spectra, as_edit(spectra, sigma), tmp_path / "out").folder
    with LiveModel(loaded_base(model), adapter, spectra) as live:
        before = logits(live.model)
        live.set_sigma(sigma)
        found = logits(live.model)
    assert relative(found, before) > 0.05
    assert relative(found, logits(with_peft(model, out))) < logits_apart(model)


def test_a_model_that_scales_its_embeddings_scales_the_update_after_the_norm(tmp_path):
    model = scaled_embeddings()
    folder = save_adapter(model, tmp_path / "adapter", targets=("embed_tokens", "o_proj"), use_dora=True)
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    sigma = random_sigma(spectra, 1)
    out = export(adapter, spectra, as_edit(spectra, sigma), tmp_path / "out").folder
    with LiveModel(loaded_base(model), adapter, spectra) as live:
        for place, values in ((folder, None), (out, sigma)):
            live.set_sigma(values)
            assert relative(logits(live.model), logits(with_peft(scaled_embeddings(), place))) < logits_apart(
                model
            )


def test_silencing_every_component_leaves_the_trained_magnitudes(folder):
    model = double(biased())
    with attached(model, folder) as live:
        live.set_sigma({name: 0 * spectrum.sigma for name, spectrum in live.spectra.items()})
        found = logits(live.model)
        magnitudes = {n: f.magnitude.astype(np.float64) for n, f in live.adapter.modules.items()}
    expected = copy.deepcopy(model)
    for name, magnitude in magnitudes.items():
        weight = expected.get_submodule(name).weight
        weight.mul_((torch.from_numpy(magnitude.copy()) / weight.norm(dim=1))[:, None])
    assert relative(found, logits(expected)) < logits_apart(model)


def test_variants_in_one_batch_equal_each_alone(case):
    make, folder = case
    with attached(double(make()), folder) as live:
        variants = [random_sigma(live.spectra, seed) for seed in range(3)]
        alone = []
        for sigma in variants:
            live.set_sigma(sigma)
            alone.append(logits(live.model))
        live.set_sigma({name: np.stack([sigma[name] for sigma in variants]) for name in live.spectra})
        together = logits(live.model)
        for row, single in enumerate(alone):
            assert relative(together[row], single[row]) < logits_apart(live.model)
        assert relative(alone[0], alone[1]) > 0.1


def test_the_engine_scores_variants_of_dora_as_peft_does_their_exports(folder, tmp_path):
    model, adapter = biased(), open_adapter(folder)
    spectra = decompose(adapter)
    examples = random_examples(4, seed=3)
    sigma = random_sigma(spectra, 2)
    out = export(adapter, spectra, as_edit(spectra, sigma), tmp_path / "out").folder
    with LiveModel(loaded_base(model), adapter, spectra) as live:
        found = VariantEngine(live, {"unedited": None, "edit": sigma}).answer_losses(examples)
    for name, place in (("unedited", folder), ("edit", out)):
        reference = with_peft(model, place)
        with torch.no_grad():
            assert_losses(found[name], [example_loss(reference, example).item() for example in examples], model)


@contextmanager
def moved(reference: Any, name: str, live: LiveModel, sigma: np.ndarray) -> Iterator[None]:
    """PEFT's layer with the factors U·diag(σ)/scaling and Vᵀ in place of its own."""
    layer = reference.base_model.model.get_submodule(name)
    spectrum, scaling = live.spectra[name], layer.scaling["default"]
    parts = (
        (layer.lora_embedding_A["default"], layer.lora_embedding_B["default"])
        if layer.lora_embedding_A
        else (layer.lora_A["default"].weight, layer.lora_B["default"].weight)
    )
    old = [part.detach().clone() for part in parts]
    with torch.no_grad():
        parts[0].copy_(torch.from_numpy(spectrum.V.T))
        parts[1].copy_(torch.from_numpy(spectrum.U * sigma / scaling))
        yield
        for part, values in zip(parts, old, strict=True):
            part.copy_(values)


def test_sensitivities_are_the_finite_differences_of_pefts_loss_norm_and_all(case):
    make, folder = case
    model, examples = double(make()), of_one_length(3)
    reference = with_peft(model, folder)
    with attached(model, folder) as live:
        measured = measure_sensitivity(live, Calibration(tuple(examples), Encoding()), list(live.spectra))
        for name in list(live.spectra)[:: max(1, len(live.spectra) // 4)]:
            sigma, slopes = live.spectra[name].sigma, []
            for step in STEP * np.eye(sigma.size):
                ends = []
                for side in (sigma + step, sigma - step):
                    with moved(reference, name, live, side):
                        ends.append(losses_of(reference, examples))
                slopes.append((ends[0] - ends[1]) / (2 * STEP))
            np.testing.assert_allclose(measured.values[name], np.stack(slopes, 1), rtol=2e-5, atol=1e-8)
        assert all(g.any() for g in measured.values.values())


def of_one_length(count: int) -> list[Example]:
    """Examples of five tokens and three, which one pass reads without padding."""
    rows = np.random.default_rng(4).integers(6, VOCABULARY, size=(count, 8)).tolist()
    return [Example(f"key {i}", tuple(row[:5]), tuple(row[5:]), "") for i, row in enumerate(rows)]


def losses_of(model: Any, examples: list[Example]) -> np.ndarray:
    """Mean cross-entropy of the three answer tokens of each example."""
    ids = torch.tensor([[*example.prompt_ids, *example.answer_ids] for example in examples])
    with torch.no_grad():
        found = model(input_ids=ids).logits[:, 4:7].log_softmax(-1)
    return -found.gather(-1, ids[:, 5:, None]).squeeze(-1).mean(1).numpy()


def test_a_norm_taken_as_constant_would_give_other_sensitivities(folder):
    # PEFT's own backward pass takes it so; were the two alike, the test above would say nothing of the norm
    model, example = double(biased()), random_examples(1, seed=4)[0]
    reference = with_peft(model, folder)
    with attached(model, folder) as live:
        measured = measure_sensitivity(live, Calibration((example,), Encoding()), list(live.spectra))
        for name in list(live.spectra)[::7]:
            spectrum, layer = live.spectra[name], reference.base_model.model.get_submodule(name)
            B = layer.lora_B["default"].weight.requires_grad_(True)
            with moved(reference, name, live, spectrum.sigma), torch.enable_grad():
                (slope,) = torch.autograd.grad(example_loss(reference, example), B)
            constant = (spectrum.U * slope.numpy()).sum(0) / layer.scaling["default"]
            assert relative(constant, measured.values[name][0]) > 0.05


def test_the_first_order_preview_of_dora_is_the_change_measured_up_to_second_order(folder):
    model, examples = double(biased()), random_examples(4, seed=6)
    with attached(model, folder) as live:
        g = measure_sensitivity(live, Calibration(tuple(examples), Encoding()), list(live.spectra))

        def mean_loss() -> float:
            with torch.no_grad():
                return float(np.mean([example_loss(live.model, example).item() for example in examples]))

        live.set_sigma(None)
        start, errors = mean_loss(), []
        for step in (2e-3, 1e-3):
            after = {n: s.sigma * (1 - step * np.sign(g.values[n].mean(0))) for n, s in live.spectra.items()}
            predicted = preview(as_edit(live.spectra, after), g).predicted
            live.set_sigma(after)
            errors.append(abs(mean_loss() - start - predicted))
            assert predicted < 0
            assert errors[-1] < 0.1 * abs(predicted)
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_to_float32_as_peft_is(folder, dtype):
    exact = logits(with_peft(biased(), folder))
    alone = relative(logits(with_peft(biased().to(dtype), folder)), exact)
    with attached(biased().to(dtype), folder) as live:
        assert relative(logits(live.model), exact) < 1.5 * alone


class Convolutions(nn.Module):
    """A convolution of each kind, one after the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv1 = nn.Conv1d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(2, 4, (2, 3), stride=(1, 2))
        self.conv3 = nn.Conv3d(1, 3, (2, 1, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(x).tanh()
        x = self.conv2(x.unflatten(1, (2, 2))).tanh()
        return self.conv3(x[:, None]).flatten(1)


def convolutions(folder: Path) -> tuple[nn.Module, Path]:
    model = Convolutions().double().requires_grad_(False)
    config = peft.LoraConfig(r=3, lora_alpha=7, use_dora=True, target_modules=["conv1", "conv2", "conv3"])
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.4)
    adapted.save_pretrained(str(folder))
    return model, folder


def test_convolutions_are_normalised_as_peft_does_for_every_row_and_derivative(tmp_path):
    model, folder = convolutions(tmp_path / "adapter")
    x = torch.randn(2, 3, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    variants = [{name: s.sigma for name, s in spectra.items()}, random_sigma(spectra, 3)]
    out = export(adapter, spectra, as_edit(spectra, variants[1]), tmp_path / "out").folder
    expected = [
        peft.PeftModel.from_pretrained(copy.deepcopy(model), str(place)).eval()(x).detach()
        for place in (folder, out)
    ]
    assert relative(expected[0], model(x)) > 0.1
    with LiveModel(loaded_base(model), adapter, spectra) as live:
        live.set_sigma({name: np.stack([each[name] for each in variants]) for name in spectra})
        found = live.model(x)
        for row in range(2):
            assert relative(found[row], expected[row][row]) < logits_apart(model)
        live.set_sigma(None)
        e = live.perturb(spectra, 2)
        live.model(x).square().sum().backward()
        live.unperturb()
        for name, spectrum in spectra.items():
            for k, step in enumerate(STEP * np.eye(spectrum.rank)):
                ends = []
                for sign in (1, -1):
                    live.set_sigma({name: spectrum.sigma + sign * step})
                    ends.append(live.model(x).square().flatten(1).sum(1))
                slope = (ends[0] - ends[1]) / (2 * STEP)
                np.testing.assert_allclose(e[name].grad[:, k], slope, rtol=1e-5, atol=1e-8)


def test_the_factor_is_the_magnitude_over_the_norm_of_the_dense_rows():
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(9, 6).double().requires_grad_(False)
    U, V = (torch.linalg.qr(torch.randn(n, 3, generator=generator, dtype=torch.float64))[0] for n in (6, 9))
    sigma = torch.tensor([4.0, 2.0, 0.5], dtype=torch.float64)
    magnitude = torch.rand(6, generator=generator, dtype=torch.float64)
    norm = WeightNorm(layer, spectrum_of(U, sigma, V), magnitude, like=sigma)
    rows = torch.stack([sigma, 0 * sigma, 3 * sigma, sigma * torch.tensor([0.0, 1.0, -1.0])])
    for found, each in zip(norm.factor(rows), rows, strict=True):
        dense = layer.weight + (U * each) @ V.T
        torch.testing.assert_close(found, magnitude / dense.norm(dim=1), rtol=1e-12, atol=0)


def spectrum_of(U: torch.Tensor, sigma: torch.Tensor, V: torch.Tensor) -> Spectrum:
    return Spectrum("m", None, "m", U.numpy(), sigma.numpy(), V.numpy())


def test_a_row_that_the_update_all_but_cancels_keeps_its_norm_in_float32():
    # ‖W‖² and the rest are a million times n², which a sum of the three in float32 would not leave a digit of
    layer = nn.Linear(8, 5, bias=False).requires_grad_(False)
    U = torch.eye(5, 1, dtype=torch.float64)
    V = torch.nn.functional.normalize(layer.weight[0].double(), dim=0)[:, None]
    sigma = -(layer.weight[0].double().norm() * (1 - 1e-3))[None]
    norm = WeightNorm(layer, spectrum_of(U, sigma, V), torch.ones(5), like=torch.zeros(1))
    dense = layer.weight.double() + (U * sigma) @ V.T
    torch.testing.assert_close(norm.factor(norm.own).double(), 1 / dense.norm(dim=1), rtol=1e-6, atol=0)


def test_an_output_without_any_weight_is_refused(tmp_path):
    model = tiny_llama()
    folder = save_adapter(model, tmp_path / "adapter", targets=["v_proj"], use_dora=True)
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    for key, value in tensors.items():
        if ".layers.0." in key and "lora_B" in key:
            value[3] = 0
    save_file(tensors, file)
    model.model.layers[0].self_attn.v_proj.weight[3] = 0
    adapter = open_adapter(folder)
    message = refusal(BaseModelError, LiveModel, loaded_base(model), adapter, decompose(adapter))
    assert "outputs whose weights are all zero" in message


def test_a_base_of_another_shape_is_refused_before_its_norms_are_made(folder):
    adapter = open_adapter(folder)
    model = tiny_llama(hidden_size=48, attention_bias=True, mlp_bias=True)
    message = refusal(BaseModelError, LiveModel, loaded_base(model), adapter, decompose(adapter))
    assert "but the adapter was trained on" in message


def test_closing_gives_the_base_back(folder):
    model = biased()
    modules, before = dict(model.named_modules()), logits(model)
    with attached(model, folder) as live:
        assert relative(logits(live.model), before) > 0.1
    np.testing.assert_array_equal(logits(model), before)
    assert {name: id(module) for name, module in model.named_modules()} == {n: id(m) for n, m in modules.items()}


@pytest.fixture
def offloaded(tmp_path) -> BaseChoice:
    base = save_model(biased(), tmp_path / "base")
    return BaseChoice(str(base), device=f"auto:cpu=90KB,disk={tmp_path / 'offload'}")


def test_an_offloaded_base_gives_the_norms_of_the_whole_one(offloaded, folder):
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    expected = logits(with_peft(biased(), folder))
    with attach(adapter, spectra, offloaded) as live:
        assert {"cpu", "disk"} == set(live.model.hf_device_map.values())
        assert relative(logits(live.model), expected) < logits_apart(biased())
        assert is_offloaded(live.model)
