"""Inputs from forward passes alone, against PEFT's own layers with and without the adapter."""

from pathlib import Path
from typing import Any

import pytest

from surgery.data import Example
from surgery.errors import Cancelled
from surgery.progress import Control
from surgery.sensitivity import measure_inputs
from tests.helpers.dense_inputs import CASES, EXACT, dense, functional, whole
from tests.helpers.models import double, relative, save_adapter, with_peft
from tests.surgery.sensitivity.conftest import EXAMPLES, attached_to, calibration, measure, stopping


@pytest.fixture(scope="module", params=CASES)
def case(request: Any, tmp_path_factory: Any) -> tuple[Any, Path]:
    make, options = CASES[request.param]
    return make(), save_adapter(make(), tmp_path_factory.mktemp("adapter"), **options)


def test_the_base_s_inputs_are_those_of_the_model_without_the_adapter(case):
    model, folder = case
    with attached_to(double(model), folder) as live:
        names = list(live.spectra)
        inputs = measure_inputs(live, calibration(), names, batch_size=4)
        peft_model = with_peft(double(model), folder)
        seen = [name for name in inputs.prompt if name != "lm_head"]

        def without(model: Any, example: Example) -> None:
            with model.disable_adapter():
                whole(model, example)

        expected = dense(peft_model, seen, EXAMPLES, without)
        assert inputs.base
        for name in seen:
            energy = functional(live, inputs, name, "all")
            # the magnitudes of DoRA stay in, as the docstring says
            if not live.adapter.config.get("use_dora"):
                assert energy == pytest.approx(expected[name].mean("all"), rel=EXACT), name
        own = measure_inputs(live, calibration(), names, base=False, batch_size=4)
        assert not own.base
        for name, M in measure(live, batch_size=4).inputs.answer.items():
            assert relative(own.answer[name], M) < EXACT


def test_a_cancelled_pass_leaves_the_adapter_s_own_sigma(live):
    expected = measure(live).losses
    with pytest.raises(Cancelled):
        measure_inputs(
            live, calibration(), list(live.spectra), batch_size=2, control=Control(progress=stopping(4)[0])
        )
    assert (measure(live).losses == expected).all()
