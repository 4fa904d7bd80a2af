"""AdaLoRA in the running model against peft's own forward: linear layers, GPT-2's transposed ones and convolutions."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from torch import nn

from surgery.adapter import open_adapter
from surgery.data import Calibration, Encoding
from surgery.errors import BaseModelError
from surgery.export import export
from surgery.model import LiveModel
from surgery.sensitivity import measure_sensitivity
from surgery.spectra import decompose
from tests.helpers.adalora import save_adalora
from tests.helpers.models import (
    double,
    example_loss,
    loaded_base,
    random_examples,
    relative,
    tiny_gpt2,
    tiny_llama,
    with_peft,
)
from tests.helpers.refusals import refusal
from tests.helpers.rounding import logits_apart
from tests.helpers.spectral import as_edit, in_float64, logits, random_sigma

CASES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "llama": (tiny_llama, ["q_proj", "o_proj", "down_proj"]),
    "gpt2": (tiny_gpt2, ["c_attn", "c_fc"]),
}


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory) -> tuple[Callable[[], Any], Path]:
    make, targets = CASES[request.param]
    return make, in_float64(
        save_adalora(make(), tmp_path_factory.mktemp("adapter"), targets, task_type="CAUSAL_LM")
    )


@pytest.mark.parametrize("precise", [False, True])
def test_adalora_runs_as_in_peft_at_its_own_sigma_and_at_an_exports(case, precise, tmp_path):
    make, folder = case
    model = double(make()) if precise else make()
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    assert adapter.pruned
    sigma = random_sigma(spectra, 1)
    out = export(adapter, spectra, as_edit(spectra, sigma), tmp_path / "out").folder
    alone = logits(model)
    with LiveModel(loaded_base(model), adapter, spectra) as live:
        for place, values in ((folder, None), (out, sigma)):
            live.set_sigma(values)
            expected = logits(with_peft(make() if not precise else double(make()), place))
            assert relative(expected, alone) > 0.1
            assert relative(logits(live.model), expected) < logits_apart(live.model)


def test_sensitivities_of_adalora_are_of_the_sigma_of_its_whole_update(case):
    make, folder = case
    model, (example,) = double(make()), random_examples(1, seed=4)
    reference = with_peft(model, folder)
    adapter = open_adapter(folder)
    with LiveModel(loaded_base(model), adapter, decompose(adapter)) as live:
        measured = measure_sensitivity(live, Calibration((example,), Encoding()), list(live.spectra))
        for name in list(live.spectra)[::2]:
            factors, spectrum = adapter.modules[name], live.spectra[name]
            layer, slopes = reference.base_model.model.get_submodule(name), []
            old = layer.lora_B["default"].detach().clone()
            for k in range(spectrum.rank):
                # moving σₖ is B′ = B + (δ / σₖ)·uₖ·uₖᵀ·B
                u, ends = torch.from_numpy(spectrum.U[:, k].copy()), []
                for step in (1e-5, -1e-5):
                    with torch.no_grad():
                        layer.lora_B["default"].copy_(old + step / spectrum.sigma[k] * torch.outer(u, u @ old))
                        ends.append(example_loss(reference, example).item())
                slopes.append((ends[0] - ends[1]) / 2e-5)
            with torch.no_grad():
                layer.lora_B["default"].copy_(old)
            assert factors.diagonal is not None
            np.testing.assert_allclose(measured.values[name][0], slopes, rtol=2e-5, atol=1e-8)


class Convolution(nn.Module):
    def __init__(self, kernel: tuple[int, int] = (2, 3)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, kernel, stride=(1, 2), padding=(1, 0))
        self.middle = nn.Conv2d(6, 5, 1)
        self.last = nn.Conv2d(5, 4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.middle(self.first(x).tanh()).tanh()).flatten(1)


def test_a_convolution_of_adalora_runs_as_in_peft_and_one_of_another_kernel_is_refused(tmp_path):
    model = Convolution().double().requires_grad_(False)
    folder = in_float64(save_adalora(model, tmp_path / "adapter", ["first", "middle", "last"]))
    x = torch.randn(2, 3, 5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    sigma = random_sigma(spectra, 1)
    out = export(adapter, spectra, as_edit(spectra, sigma), tmp_path / "out").folder
    with LiveModel(loaded_base(model), adapter, spectra) as live:
        for place, values in ((folder, None), (out, sigma)):
            live.set_sigma(values)
            expected = peft.PeftModel.from_pretrained(Convolution().double(), str(place)).eval()(x).detach()
            assert relative(expected, Convolution().double()(x).detach()) > 0.05
            assert relative(live.model(x), expected) < logits_apart(copy.deepcopy(live.model))
    other = loaded_base(Convolution((3, 3)).double())
    assert "but the adapter was trained on 6 × 18" in refusal(BaseModelError, LiveModel, other, adapter, spectra)
