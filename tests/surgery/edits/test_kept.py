"""What a cut keeps, counted out in plain Python."""

import math
from dataclasses import replace

import numpy as np
import pytest

from surgery.edits import kept_in_sum, kept_of, make_edit
from surgery.policies import Rank, Scale
from tests.helpers.policies import measured, spectrum

SIGMA = {
    "m.0.o_proj": [4.0, 2.0, 1.0],
    "m.1.o_proj": [3.0, 1.0],
    "m.2.o_proj": [0.0, 0.0],
    "m.3.o_proj": [1.0, 1e-18],
}
SPECTRA = {name: spectrum(name, sigma) for name, sigma in SIGMA.items()}
SENSITIVITY = measured({name: np.ones((3, len(sigma))) for name, sigma in SIGMA.items()})


def cut(keep=1):
    return make_edit(SPECTRA, Rank(keep=keep), sensitivity=SENSITIVITY, scope="all")


def test_shares_are_those_of_the_components_that_are_left():
    found = kept_of(cut(), SENSITIVITY)
    first = found["m.0.o_proj"]
    q = SENSITIVITY.inputs.q("m.0.o_proj")
    assert (first.rank, first.kept) == (3, 1)
    assert first.energy == pytest.approx(16 / 21)
    assert first.functional == pytest.approx(16 * q[0] / (16 * q[0] + 4 * q[1] + q[2]))
    # a zero update has nothing to keep, and rounding is no component
    assert (found["m.2.o_proj"].kept, found["m.2.o_proj"].energy) == (0, 1.0)
    assert (found["m.3.o_proj"].kept, found["m.3.o_proj"].energy) == (1, 1.0)


def test_the_sum_weighs_every_component_alike():
    found = kept_in_sum(cut(), SENSITIVITY)
    assert (found.rank, found.kept) == (9, 3)
    assert found.energy == pytest.approx((16 + 9 + 1) / (21 + 10 + 1))
    total, left = 0.0, 0.0
    for name, sigma in SIGMA.items():
        carried = np.array(sigma) ** 2 * SENSITIVITY.inputs.q(name)
        total, left = total + carried.sum(), left + carried[0]
    assert found.functional == pytest.approx(left / total)


def test_a_module_whose_inputs_are_unknown_is_told_as_such_and_left_out_of_the_sum():
    assert math.isnan(kept_of(cut(), None)["m.0.o_proj"].functional)
    assert math.isnan(kept_in_sum(cut(), None).functional)
    moments = SENSITIVITY.inputs
    some = replace(
        moments, prompt=dict(list(moments.prompt.items())[1:]), answer=dict(list(moments.answer.items())[1:])
    )
    partly = replace(SENSITIVITY, inputs=some)
    found = kept_of(cut(), partly)
    assert math.isnan(found["m.0.o_proj"].functional)
    q, last = some.q("m.1.o_proj"), some.q("m.3.o_proj")
    expected = (9 * q[0] + last[0]) / (9 * q[0] + q[1] + last[0])
    assert kept_in_sum(cut(), partly).functional == pytest.approx(expected)


def test_a_plain_scale_keeps_all():
    scaled = make_edit(SPECTRA, Scale(gamma=0.5), scope="all", energy="none")
    assert all(each.energy == 1.0 for each in kept_of(scaled, None).values())
    assert kept_in_sum(scaled, None).kept == 6
