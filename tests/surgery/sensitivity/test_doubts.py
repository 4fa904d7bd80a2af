"""What calibration losses say against the base, the rows or the format."""

import numpy as np
import pytest
import torch

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan
from surgery.model import BaseChoice, LiveModel, attach
from surgery.sensitivity import (
    COMPARED,
    Sensitivity,
    calibrate,
    doubts,
    load_sensitivity,
    losses_without,
    save_sensitivity,
)
from surgery.spectra import decompose
from tests.helpers.models import example_loss, loaded_base, random_examples, save_adapter, tiny_llama
from tests.helpers.policies import PROVENANCE
from tests.helpers.rounding import assert_losses


def _sensitivity(losses, without=()):
    return Sensitivity({}, np.asarray(losses, float), PROVENANCE, without=np.asarray(without, float))


def test_the_losses_without_the_adapter_are_those_of_the_base_alone(tmp_path):
    model, examples = tiny_llama(), random_examples(7)
    adapter = open_adapter(save_adapter(model, tmp_path / "adapter"))
    with torch.no_grad():
        expected = [float(example_loss(model, example)) for example in examples]
    with LiveModel(loaded_base(model), adapter, decompose(adapter)) as live:
        with torch.no_grad():
            before = float(example_loss(live.model, examples[0]))
        assert_losses(losses_without(live, examples, batch_size=3), expected, model)
        with torch.no_grad():
            assert float(example_loss(live.model, examples[0])) == before != pytest.approx(expected[0])


def test_a_calibration_keeps_what_its_first_rows_lose_without_the_adapter(files, tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    adapter = open_adapter(files / "adapter")
    plan = CalibrationPlan(str(files / "rows.jsonl"), 20)
    with attach(adapter, decompose(adapter), BaseChoice(str(files / "base"))) as live:
        measured = calibrate(live, plan)
        again = calibrate(live, plan)
    assert measured.without.size == COMPARED
    np.testing.assert_array_equal(again.without, measured.without)
    save_sensitivity(measured, tmp_path / "file")
    np.testing.assert_array_equal(load_sensitivity(tmp_path / "file").without, measured.without)
    assert measured.head(3).without.size == 3


def test_a_loss_far_above_that_of_trained_adapters_is_told():
    (said,) = doubts(_sensitivity([7.5, 7.7]))
    assert said.startswith("mean loss 7.6 on rows it should know: are these the rows and the format")
    assert doubts(_sensitivity([1.2, 3.1])) == ()


def test_an_adapter_that_makes_its_own_rows_worse_is_told():
    (said,) = doubts(_sensitivity([2.9, 3.1, 3.0, 1.0], [1.9, 2.2, 2.0]))
    assert "loss 3.00 with it and 2.03 without, over 3 of them" in said


@pytest.mark.parametrize(
    "without",
    [
        pytest.param([], id="an earlier measurement, that does not say"),
        pytest.param([3.0, 3.4, 2.8], id="better with it"),
        pytest.param([1.0, 1.0, 1.0], id="no difference"),
        pytest.param([0.2, 1.5, 1.2], id="worse by chance"),
        pytest.param([0.9], id="one row tells nothing"),
    ],
)
def test_nothing_is_said_where_the_rows_do_not_show_it(without):
    assert doubts(_sensitivity([1.0, 1.0, 1.0], without)) == ()
