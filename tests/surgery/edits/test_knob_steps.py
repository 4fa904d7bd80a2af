"""A knob's table holds, at every step, what an edit with that value is; no step is special."""

import math
from dataclasses import replace

import numpy as np
import pytest

from surgery.edits import EditPlan, end_to_end, expected, knob_table, make_edit, preview, summary
from surgery.errors import PolicyError
from surgery.policies import (
    POLICIES,
    AbsSelect,
    Identity,
    RandomIndex,
    Scale,
    SmoothAbs,
    knob_values,
    knobs_of,
    make_policy,
)
from tests.helpers.policies import measured, spectrum, with_protected

SIGMA = {
    "model.layers.0.self_attn.o_proj": [4.0, 3.0, 2.0, 1.0, 0.5],
    "model.layers.0.mlp.down_proj": [3.0, 0.1],
    "model.layers.1.self_attn.o_proj": [5.0, 2.0, 1.0, 1.0, 0.0],
    "model.layers.1.self_attn.q_proj": [1.0, 1.0],
}
SPECTRA = {name: spectrum(name, sigma) for name, sigma in SIGMA.items()}
RNG = np.random.default_rng(5)
SENSITIVITY = with_protected(measured({name: RNG.normal(size=(6, len(sigma))) for name, sigma in SIGMA.items()}))
LONGER = with_protected(measured({name: RNG.normal(size=(12, len(sigma))) for name, sigma in SIGMA.items()}))
LONGER = replace(LONGER, answer_tokens=RNG.integers(1, 5, 12))
SLIDING = [(name, knob.name) for name, kind in POLICIES.items() for knob in knobs_of(kind) if knob.slides]


def plans(name):
    yield EditPlan(make_policy(name))
    yield EditPlan(
        make_policy(name), scope="o_proj", energy="none", sigma_min=0.75,
        manual={"model.layers.0.self_attn.o_proj": {1: 0.0, 4: 3.0}},
    )  # fmt: skip


@pytest.mark.parametrize(("name", "knob"), SLIDING)
def test_each_row_is_the_edit_at_its_value(name, knob):
    limits = {each.name: each for each in knobs_of(POLICIES[name])}[knob]
    for plan in plans(name):
        table = knob_table(SPECTRA, plan, knob, SENSITIVITY)
        assert table.knob == knob
        assert len(table.values) == len(table.gains) == len(table.numbers)
        np.testing.assert_allclose(table.values[0], limits.low)
        np.testing.assert_allclose(np.diff(table.values), limits.step * table.stride, rtol=1e-9)
        # of components there are no more than the rank, and a policy that solves a whole scope takes larger strides
        high = min(limits.high, 5) if limits.components else limits.high
        assert high - limits.step * table.stride < table.values[-1] <= high + 1e-9
        steps = round((high - limits.low) / limits.step)
        assert (table.stride > 1) == (name in ("natural_gradient", "protected") and steps >= 26)
        for value, gains, numbers in zip(table.values, table.gains, table.numbers, strict=True):
            knobs = {**knob_values(plan.policy), knob: round(float(value), 9)}
            try:
                edit = make_edit(
                    SPECTRA, make_policy(name, knobs), sensitivity=SENSITIVITY, scope=plan.scope,
                    energy=plan.energy, sigma_min=plan.sigma_min, manual=plan.manual,
                )  # fmt: skip
            except PolicyError:
                assert np.isnan(gains).all()
                assert numbers is None
                continue
            expected = [gain for module in edit.modules.values() for gain in module.gains]
            assert gains.tolist() == expected
            assert numbers == preview(edit, SENSITIVITY)


def test_the_row_of_the_present_value_is_the_present_edit():
    plan = EditPlan(make_policy("grad_direction"))
    table = knob_table(SPECTRA, plan, "eta_suppress", SENSITIVITY)
    at = int(np.abs(table.values - plan.policy.eta_suppress).argmin())
    np.testing.assert_array_equal(table.gains[at], end_to_end(plan.apply(SPECTRA, SENSITIVITY)))


@pytest.mark.parametrize("name", ["grad_direction", "natural_gradient", "rank"])
def test_each_strength_is_the_plan_at_it(name):
    for plan in plans(name):
        table = knob_table(SPECTRA, plan, "strength", LONGER)
        np.testing.assert_allclose(table.values, np.arange(31) * 0.05)
        for value, gains, numbers, told in zip(
            table.values, table.gains, table.numbers, table.expectations, strict=True
        ):
            turned = replace(plan, strength=float(value))
            edit = turned.apply(SPECTRA, LONGER)
            np.testing.assert_array_equal(gains, end_to_end(edit))
            assert numbers == preview(edit, LONGER)
            assert told == expected(turned, SPECTRA, LONGER)


def test_expectations_stand_beside_some_steps_evenly_spread_and_are_those_of_the_edit():
    plan = EditPlan(make_policy("grad_direction"), scope="all")
    wide = {f"model.layers.{n}.mlp.down_proj": spectrum("m", np.arange(64, 0, -1.0)) for n in range(20)}
    sensitivity = measured({name: RNG.normal(size=(16, 64)) for name in wide})
    sensitivity = replace(sensitivity, answer_tokens=np.full(16, 3))
    table = knob_table(wide, plan, "eta_suppress", sensitivity)
    told = np.array([each is not None for each in table.expectations])
    at = np.flatnonzero(told)
    assert 2 <= len(at) < len(told)
    assert at[0] == 0
    assert len(set(np.diff(at))) == 1
    row = int(at[len(at) // 2])
    policy = make_policy("grad_direction", {"eta_suppress": float(table.values[row])})
    assert table.expectations[row] == expected(replace(plan, policy=policy), wide, sensitivity)


def test_values_that_the_policy_refuses_have_no_numbers_and_the_others_do():
    # align_mid needs sup < mid < amp, so sup is refused from 1 up
    table = knob_table(SPECTRA, EditPlan(SmoothAbs()), "sup", SENSITIVITY)
    refused = np.array([numbers is None for numbers in table.numbers])
    np.testing.assert_array_equal(refused, table.values > 1 - 1e-9)
    np.testing.assert_array_equal(np.isnan(table.gains).all(axis=1), refused)
    assert np.isfinite(table.gains[~refused]).all()


def test_without_a_measurement_the_numbers_are_those_that_need_none():
    plan = EditPlan(Scale(), energy="none")
    table = knob_table(SPECTRA, plan, "gamma", None)
    for value, numbers in zip(table.values, table.numbers, strict=True):
        expected = summary(replace(plan, policy=Scale(round(float(value), 9))).apply(SPECTRA, None))
        assert math.isnan(numbers.predicted)
        assert replace(numbers, predicted=0.0, standard_error=0.0) == replace(
            expected, predicted=0.0, standard_error=0.0
        )


@pytest.mark.parametrize(
    ("policy", "knob"),
    [(AbsSelect(), "eta"), (AbsSelect(), "norm"), (AbsSelect(), ""), (Identity(), "amp"), (RandomIndex(), "seed")],
)
def test_a_knob_that_is_not_there_or_has_no_range_is_refused(policy, knob):
    with pytest.raises(PolicyError, match="knob"):
        knob_table(SPECTRA, EditPlan(policy), knob, SENSITIVITY)


def test_a_plan_that_cannot_be_applied_is_refused():
    with pytest.raises(PolicyError, match="sensitivities"):
        knob_table(SPECTRA, EditPlan(AbsSelect()), "amp", None)
    with pytest.raises(PolicyError, match="matches no module"):
        knob_table(SPECTRA, EditPlan(Scale(), scope="nothing"), "gamma", None)
