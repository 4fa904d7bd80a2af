"""A quantised base model under the live layers: PEFT's forward, finite differences, and the base given back.

The factors of a LoRA are never quantised, so nothing may be lost against a plain base with the
same weights. One quantiser is written here; another is the library's, where it is installed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn

from surgery import decompose, open_adapter
from surgery.data import Calibration, Encoding
from surgery.errors import BaseModelError
from surgery.model import LiveModel, base_weight
from surgery.sensitivity import measure_sensitivity
from tests.helpers.models import (
    VOCABULARY,
    double,
    example_loss,
    loaded_base,
    random_examples,
    relative,
    save_adapter,
    tiny_llama,
)
from tests.helpers.refusals import refusal
from tests.helpers.rounding import logits_apart

STEP = 1e-5


class PackedLinear(nn.Module):
    """A linear layer of four-bit weights, two to a byte, with half-precision scales as in GPTQ and AWQ."""

    packed: Tensor
    scale: Tensor
    lowest: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        weight = layer.weight.detach()
        lowest, highest = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
        scale = ((highest - lowest) / 15).half()
        codes = ((weight - lowest.half()) / scale).round().clamp(0, 15).to(torch.uint8)
        self.register_buffer("scale", scale)
        self.register_buffer("lowest", lowest.half())
        self.register_buffer("packed", codes[:, ::2] * 16 + codes[:, 1::2])

    def weight_in(self, dtype: torch.dtype) -> Tensor:
        codes = torch.stack([self.packed // 16, self.packed % 16], dim=-1).flatten(1)
        return codes.to(dtype) * self.scale.to(dtype) + self.lowest.to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight_in(x.dtype))


def pack(model: Any) -> Any:
    for name, layer in _linear_layers(model):
        _put(model, name, PackedLinear(layer))
    return model


def unpacked(model: Any) -> Any:
    """Plain layers that hold the very weights of the packed ones."""
    for _, layer in _linear_layers(model):
        with torch.no_grad():
            layer.weight.copy_(PackedLinear(layer).weight_in(layer.weight.dtype))
    return model


def quanto(model: Any) -> Any:
    """Weights of eight bits by optimum-quanto; its four-bit kernels would be compiled on first use."""
    library = pytest.importorskip("optimum.quanto", reason="optimum-quanto is not installed")
    library.quantize(model, weights=library.qint8, exclude="lm_head")
    library.freeze(model)
    return model.requires_grad_(False)


def _linear_layers(model: Any) -> list[tuple[str, nn.Linear]]:
    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    return [(name, layer) for name, layer in layers if name != "lm_head"]


def _put(model: Any, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


@dataclass(frozen=True, repr=False)
class Quantiser:
    """How a base is quantised, and the base under which peft runs the same weights."""

    quantise: Callable[[Any], Any]
    for_peft: Callable[[Any], Any]


# peft wraps quanto's layers as they are; it would not know the ones written here
QUANTISERS = {"packed four bits": Quantiser(pack, unpacked), "quanto eight bits": Quantiser(quanto, quanto)}


@pytest.fixture(params=QUANTISERS)
def quantiser(request) -> Quantiser:
    return QUANTISERS[request.param]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return save_adapter(tiny_llama(), tmp_path_factory.mktemp("adapter"))


def attach(model: Any, folder: Path) -> LiveModel:
    adapter = open_adapter(folder)
    return LiveModel(loaded_base(model), adapter, decompose(adapter))


def logits(model: Any) -> np.ndarray:
    ids = torch.randint(VOCABULARY, (3, 11), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(input_ids=ids).logits.double().numpy()


def test_quantising_changes_the_base(quantiser):
    # or the tests below would run on a plain model
    assert 1e-3 < relative(logits(quantiser.quantise(tiny_llama())), logits(tiny_llama())) < 1


def test_live_logits_on_a_quantised_base_equal_pefts_forward(quantiser, folder):
    model = quantiser.quantise(tiny_llama())
    expected = logits(PeftModel.from_pretrained(quantiser.for_peft(tiny_llama()), folder).eval())
    assert relative(expected, logits(model)) > 0.1, "the update must matter, or equality shows nothing"
    with attach(model, folder) as live:
        assert relative(logits(live.model), expected) < logits_apart(tiny_llama())


def test_sensitivities_on_a_quantised_base_equal_finite_differences(quantiser, folder):
    examples = tuple(random_examples(3, seed=4))
    with attach(quantiser.quantise(double(tiny_llama())), folder) as live:
        measured = measure_sensitivity(live, Calibration(examples, Encoding()), list(live.spectra))

        def losses(name: str, moved: np.ndarray) -> np.ndarray:
            live.set_sigma({name: live.spectra[name].sigma + moved})
            with torch.no_grad():
                return np.array([example_loss(live.model, example).item() for example in examples])

        for name, spectrum in live.spectra.items():
            steps = STEP * np.eye(spectrum.rank)
            slopes = [(losses(name, step) - losses(name, -step)) / (2 * STEP) for step in steps]
            np.testing.assert_allclose(measured.values[name], np.stack(slopes, 1), rtol=1e-5, atol=1e-9)
        assert all(g.any() for g in measured.values.values())


def test_dora_on_a_base_whose_weights_can_be_dequantised_is_pefts_dora(tmp_path):
    adapter = save_adapter(tiny_llama(), tmp_path / "adapter", use_dora=True)
    model = quanto(tiny_llama())
    expected = logits(PeftModel.from_pretrained(quanto(tiny_llama()), adapter).eval())
    assert relative(expected, logits(model)) > 0.1
    with attach(model, adapter) as live:
        assert relative(logits(live.model), expected) < logits_apart(tiny_llama())
        layer = live.model.model.layers[0].self_attn.q_proj.base
        dense = base_weight(live, "model.layers.0.self_attn.q_proj")
        np.testing.assert_allclose(dense, layer(torch.eye(32)).T.numpy(), rtol=1e-5, atol=1e-6)


def test_dora_on_weights_packed_in_an_unknown_way_is_refused_and_runs_once_they_are_not(tmp_path):
    folder = save_adapter(tiny_llama(), tmp_path / "adapter", use_dora=True)
    model = pack(tiny_llama())
    message = refusal(BaseModelError, attach, model, folder)
    assert "is quantised (PackedLinear) in a way that cannot be read" in message
    assert "load the base model unquantised" in message
    assert not any(type(module).__name__.startswith("Spectral") for module in model.modules())
    expected = logits(PeftModel.from_pretrained(unpacked(tiny_llama()), folder).eval())
    with attach(unpacked(tiny_llama()), folder) as live:
        assert relative(logits(live.model), expected) < logits_apart(tiny_llama())


def test_closing_gives_the_quantised_base_back(quantiser, folder):
    model = quantiser.quantise(tiny_llama())
    modules, before = dict(model.named_modules()), logits(model)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with attach(model, folder) as live:
        live.set_sigma({name: 2 * spectrum.sigma for name, spectrum in live.spectra.items()})
        assert relative(logits(live.model), before) > 0.1
    np.testing.assert_array_equal(logits(model), before)
    restored = dict(model.named_modules())
    assert list(restored) == list(modules)
    assert all(restored[name] is module for name, module in modules.items())
    assert list(model.state_dict()) == list(weights)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
