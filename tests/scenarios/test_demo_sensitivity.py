"""The demo's sensitivities on its real base model: finite differences, and nothing of the batching."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from peft import PeftModel

from surgery.adapter import open_adapter
from surgery.data import Calibration, Encoding, choose, encode, read_rows
from surgery.files import DEMO_BASE, data_file, demo_folder
from surgery.model import LiveModel, load_base
from surgery.sensitivity import Sensitivity, measure_sensitivity
from surgery.spectra import decompose
from tests.helpers.models import double, example_loss, relative
from tests.helpers.rounding import assert_losses, sensitivities_apart

pytestmark = pytest.mark.demo

DEMO = "demo:kinship"
COMPONENTS = 6
STEP = 1e-4
# Σ|terms| / |sum| of a loss's gradient Σ p W - W_answer over the 49,152 rows W of the output head: 2 to 5. The kernels
# for up to three rows, as of an example alone with an answer of two tokens, add these terms one after the other.
CONDITION = 5.0


@dataclass(frozen=True, repr=False)
class Measured:
    live: LiveModel
    calibration: Calibration
    sensitivity: Sensitivity


@pytest.fixture(scope="module")
def measured():
    adapter = open_adapter(DEMO)
    base = load_base(DEMO_BASE)
    rows = choose(read_rows(data_file(f"{DEMO}/calibration")), 6)
    calibration = encode(rows, base.tokenizer, Encoding())
    with LiveModel(base, adapter, decompose(adapter)) as live:
        yield Measured(live, calibration, measure_sensitivity(live, calibration, list(live.spectra), batch_size=6))


def largest(sensitivity: Sensitivity, row: int) -> list[tuple[str, int]]:
    """The component of largest |g| in each of the modules where it is largest."""
    peaks = {name: int(np.abs(g[row]).argmax()) for name, g in sensitivity.values.items()}
    ordered = sorted(peaks, key=lambda name: -abs(sensitivity.values[name][row, peaks[name]]))
    return [(name, peaks[name]) for name in ordered[:COMPONENTS]]


def slope(model, name: str, component: int, example) -> float:
    """Central difference of the loss in σ of one component, on a plain peft model in float64."""
    layer = model.get_submodule(f"base_model.model.{name}")
    U, _, Vh = torch.linalg.svd(layer.get_delta_weight("default"), full_matrices=False)
    direction = torch.outer(U[:, component], Vh[component])
    weight = layer.get_base_layer().weight
    weight += STEP * direction
    above = example_loss(model, example)
    weight -= 2 * STEP * direction
    below = example_loss(model, example)
    weight += STEP * direction
    return float(above - below) / (2 * STEP)


def test_the_demos_largest_sensitivities_equal_finite_differences(measured):
    example = measured.calibration.examples[0]
    chosen = largest(measured.sensitivity, row=0)
    found = [measured.sensitivity.values[name][0, k] for name, k in chosen]
    exact = PeftModel.from_pretrained(double(load_base(DEMO_BASE).model), demo_folder(DEMO)).double().eval()
    with torch.no_grad():
        assert_losses(measured.sensitivity.losses[0], float(example_loss(exact, example)), measured.live.model)
        expected = [slope(exact, name, k, example) for name, k in chosen]
    np.testing.assert_allclose(found, expected, rtol=sensitivities_apart(measured.live.model, CONDITION))


@pytest.mark.parametrize(("batch_size", "layout"), [(1, "left"), (4, "right")])
def test_the_demos_sensitivities_do_not_depend_on_batch_size_padding_or_order(measured, batch_size, layout):
    order = [3, 0, 5, 2, 4, 1]
    shuffled = Calibration(tuple(measured.calibration.examples[i] for i in order), measured.calibration.encoding)
    again = measure_sensitivity(
        measured.live, shuffled, list(measured.live.spectra), batch_size=batch_size, layout=layout
    )
    model = measured.live.model
    assert_losses(again.losses, measured.sensitivity.losses[order], model)
    for name, g in again.values.items():
        assert relative(g, measured.sensitivity.values[name][order]) < sensitivities_apart(model, CONDITION), name
