"""The strength of an edit: σ′(λ) lies on the line through σ and σ′, and its ends are exact."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.edits import (
    STRONGEST,
    Edit,
    EditPlan,
    check_strength,
    edit_record,
    make_edit,
    modules_at,
    parse_edit,
    put,
    sigma_at,
    with_strength,
)
from surgery.errors import PolicyError
from surgery.policies import GradDirection, Identity, RandomIndex, Rank, Scale
from tests.helpers.policies import measured, spectrum

NAME = "model.layers.0.self_attn.o_proj"
OTHER = "model.layers.1.mlp.down_proj"
POLICIES = (GradDirection(), RandomIndex(amp=2.0, sup=0.1), Rank(keep=2), Scale(1.7), Identity())

sigmas = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9).map(lambda s: sorted(s, reverse=True))
strengths = st.floats(0, STRONGEST)


def adapter(sigma, seed=0):
    """Two modules with one spectrum, and made-up sensitivities of both."""
    rng = np.random.default_rng(seed)
    spectra = {name: spectrum(name, sigma) for name in (NAME, OTHER)}
    return spectra, measured({name: rng.normal(size=(3, len(sigma))) for name in spectra})


@given(sigmas, st.integers(0, 99), st.sampled_from(POLICIES), st.sampled_from(["l1", "l2", "none"]), strengths)
def test_sigma_moves_along_the_line_from_sigma_to_the_whole_edit(sigma, seed, policy, energy, strength):
    spectra, sensitivity = adapter(sigma, seed)
    plan = EditPlan(policy, energy=energy)
    whole = plan.apply(spectra, sensitivity)
    part = replace(plan, strength=strength).apply(spectra, sensitivity)
    for name, module in part.modules.items():
        for k, now in enumerate(module.sigma_after):
            old, new = float(module.sigma[k]), float(whole.modules[name].sigma_after[k])
            expected = max(math.fsum([old, -strength * old, strength * new]), 0.0)
            # three roundings of terms no larger than 2.5 of the larger value
            assert now == pytest.approx(expected, abs=8 * 2.0**-52 * max(old, new))
            assert module.gains[k] == now / old
        assert module.skipped == whole.modules[name].skipped


@given(sigmas, st.integers(0, 99), st.sampled_from(POLICIES), st.sampled_from(["l1", "l2", "none"]))
def test_strength_zero_is_the_unedited_adapter_and_strength_one_the_edit_bit_for_bit(sigma, seed, policy, energy):
    spectra, sensitivity = adapter(sigma, seed)
    whole = make_edit(spectra, policy, sensitivity=sensitivity, energy=energy)
    for name, module in with_strength(whole, 0.0).modules.items():
        assert module.sigma_after.tobytes() == spectra[name].sigma.tobytes()
        assert module.gains.tolist() == [1.0] * len(sigma)
    assert with_strength(whole, 1.0) is whole
    assert modules_at(whole.modules, 1.0) == dict(whole.modules)
    assert EditPlan(policy, energy=energy).apply(spectra, sensitivity).sigma_after[NAME].tobytes() == (
        whole.sigma_after[NAME].tobytes()
    )


@given(sigmas, strengths)
def test_what_the_edit_leaves_alone_moves_by_no_bit_at_any_strength(sigma, strength):
    sigma = np.array(sigma)
    after = sigma.copy()
    after[::2] *= 0.3
    found = sigma_at(sigma, after, strength)
    assert found[1::2].tobytes() == sigma[1::2].tobytes()


@given(sigmas, strengths, st.floats(0, 10))
def test_no_strength_takes_a_component_below_the_clamp_that_the_edit_kept(sigma, strength, floor):
    spectra, _ = adapter(sigma)
    plan = EditPlan(Scale(0.0), energy="none", sigma_min=floor)
    part = replace(plan, strength=strength).apply(spectra, None).modules[NAME]
    # short of 1 it lies between σ and σ′, of which one may lie below the clamp
    assert (part.sigma_after >= np.minimum(floor, part.sigma) * (1 - 1e-12)).all()
    assert (part.sigma_after >= 0).all()
    if strength >= 1:
        assert (part.sigma_after >= floor * (1 - 1e-12)).all()


def test_past_one_the_edit_overshoots_and_stops_at_the_clamp():
    sigma, after = np.array([4.0, 2.0, 1.0]), np.array([6.0, 1.0, 0.1])
    assert sigma_at(sigma, after, 1.5).tolist() == [7.0, 0.5, 0.0]
    assert sigma_at(sigma, after, 1.5, 0.75).tolist() == [7.0, 0.75, 0.1]
    assert sigma_at(sigma, after, 0.5).tolist() == pytest.approx([5.0, 1.5, 0.55], rel=1e-15)


def test_a_stack_of_modules_is_the_sum_of_its_rows():
    rng = np.random.default_rng(0)
    sigma, after = rng.random((5, 7)), rng.random((5, 7))
    for strength in (0.0, 0.3, 1.0, 1.5):
        together = sigma_at(sigma, after, strength, 0.2)
        for row in range(5):
            assert together[row].tobytes() == sigma_at(sigma[row], after[row], strength, 0.2).tobytes()


@pytest.mark.parametrize("strength", [-0.1, STRONGEST + 0.01, math.nan, math.inf])
def test_a_strength_out_of_range_is_refused_with_the_range(strength):
    for make in (check_strength, lambda value: EditPlan(strength=value)):
        with pytest.raises(PolicyError, match=r"from 0 to 1\.5"):
            make(strength)
    for good in (0, 0.5, STRONGEST):
        check_strength(good)


@given(strengths)
def test_the_record_of_a_plan_tells_its_strength_and_that_of_a_whole_edit_is_as_before(strength):
    plan = EditPlan(Rank(), strength=strength)
    assert parse_edit(edit_record(plan)) == plan
    assert ("strength" in edit_record(plan)) == (strength != 1)


@given(sigmas.filter(lambda s: len(s) > 1), st.floats(0.1, STRONGEST), st.floats(0.9, 1.02))
def test_a_bar_put_by_hand_ends_where_the_hand_put_it_at_any_strength(sigma, strength, gain):
    spectra, sensitivity = adapter(sigma)
    for energy in ("none", "l1"):
        plan = EditPlan(Scale(1.0), energy=energy, strength=strength)
        try:
            edited = put(spectra, plan, sensitivity, NAME, {0: gain})
        except PolicyError:
            continue  # one component stands for nearly all of the energy
        found = edited.apply(spectra, sensitivity).modules[NAME].sigma_after[0]
        assert found == pytest.approx(gain * sigma[0], rel=1e-9)


def test_a_gain_that_the_strength_cannot_reach_is_refused_with_the_least_one():
    spectra, _ = adapter([4.0, 2.0, 1.0])
    plan = EditPlan(Identity(), energy="none", strength=0.5)
    assert put(spectra, plan, None, NAME, {0: 0.5}).manual[NAME][0] == 0.0
    with pytest.raises(PolicyError, match=r"below 0\.5"):
        put(spectra, plan, None, NAME, {0: 0.4})
    with pytest.raises(PolicyError, match="raise the strength"):
        put(spectra, replace(plan, strength=0.0), None, NAME, {0: 0.5})


def test_the_strength_of_an_edit_of_nothing_is_nothing():
    assert with_strength(Edit({}), 0.5) == Edit({})
