"""Gains by hand: a component ends where the hand put it, whatever policy and energy rule stand over it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from surgery.data import CalibrationPlan
from surgery.edits import EditPlan, hold, put, release
from surgery.errors import PolicyError
from surgery.model import BaseChoice
from surgery.policies import AbsSelect, GradDirection, Identity, RandomIndex, Rank, Scale
from surgery.recipes import Recipe, dump_recipe, parse_recipe
from tests.helpers.policies import measured, spectrum

HERE, THERE = "model.layers.0.self_attn.o_proj", "model.layers.1.self_attn.o_proj"
POLICIES = (
    GradDirection(),
    GradDirection(asymmetric=False, eta=1.5),
    AbsSelect(),
    RandomIndex(),
    Identity(),
    Scale(1.7),
    Rank(keep=3),
)

sigmas = st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=12).map(lambda s: sorted(s, reverse=True))
gains_by_hand = st.one_of(st.just(0.0), st.floats(1e-3, 4.0))


def adapter(sigma, seed):
    """Two modules of one rank and made-up sensitivities of both."""
    rng = np.random.default_rng(seed)
    spectra = {name: spectrum(name, sigma) for name in (HERE, THERE)}
    return spectra, measured({name: rng.normal(size=(3, len(sigma))) for name in spectra})


def after(spectra, plan, sensitivity, name=HERE):
    return plan.apply(spectra, sensitivity).modules[name].sigma_after


def energy(values, rule):
    return np.abs(values).sum() if rule == "l1" else np.sqrt((values**2).sum())


@given(
    sigma=sigmas,
    seed=st.integers(0, 99),
    policy=st.sampled_from(POLICIES),
    rule=st.sampled_from(["l1", "l2", "none"]),
    data=st.data(),
)
def test_named_components_end_exactly_where_the_hand_put_them(sigma, seed, policy, rule, data):
    spectra, sensitivity = adapter(sigma, seed)
    some = st.dictionaries(st.integers(0, len(sigma) - 1), gains_by_hand, min_size=1, max_size=len(sigma) - 1)
    earlier, wanted = data.draw(st.one_of(st.just({}), some)), data.draw(some)
    plan = EditPlan(policy, energy=rule, manual={HERE: earlier} if earlier else {})
    sigma = spectra[HERE].sigma
    target = np.array([gain * sigma[k] for k, gain in wanted.items()])
    bare = after(spectra, replace(plan, energy="none"), sensitivity)
    others = [k for k in range(sigma.size) if k not in wanted]
    assume(rule == "none" or bare[others].sum() > 0)  # else there is nobody to take what is left
    if rule != "none" and energy(target, rule) >= energy(sigma, rule) * 0.999:
        with pytest.raises(PolicyError, match="energy"):
            put(spectra, plan, sensitivity, HERE, wanted)
        return
    if rule != "none" and energy(target, rule) >= energy(sigma, rule) * 0.995:
        return  # near the limit either answer is good
    edited = put(spectra, plan, sensitivity, HERE, wanted)
    found = after(spectra, edited, sensitivity)
    np.testing.assert_allclose(found[list(wanted)], target, rtol=1e-9, atol=1e-12 * sigma[0])
    if rule != "none" and found.any():
        assert energy(found, rule) == pytest.approx(energy(sigma, rule), rel=1e-9)
    np.testing.assert_array_equal(
        after(spectra, edited, sensitivity, THERE), after(spectra, plan, sensitivity, THERE)
    )


@given(
    sigma=sigmas,
    seed=st.integers(0, 99),
    rule=st.sampled_from(["l1", "l2"]),
    gain=st.floats(0.5, 0.9),
    floor=st.floats(0.05, 0.8),
)
def test_a_put_holds_where_the_smallest_sigma_lifts_the_other_components(sigma, seed, rule, gain, floor):
    spectra, sensitivity = adapter(sigma, seed)
    plan = EditPlan(GradDirection(), energy=rule, sigma_min=floor * sigma[0])
    try:
        edited = put(spectra, plan, sensitivity, HERE, {0: gain})
    except PolicyError:
        return  # one component stands for nearly all of the energy
    asked = edited.manual[HERE][0] * sigma[0]
    assume(asked >= plan.sigma_min)  # else the floor lifts the named one too
    assert after(spectra, edited, sensitivity)[0] == pytest.approx(gain * sigma[0], rel=1e-9)


@pytest.mark.parametrize(("rule", "share"), [("l1", 10 / 4), ("l2", np.sqrt(30) / 4)])
def test_a_component_cannot_take_all_the_energy_of_its_module(rule, share):
    spectra, sensitivity = adapter([4.0, 3.0, 2.0, 1.0], 0)
    plan = EditPlan(Identity(), energy=rule)
    put(spectra, plan, sensitivity, HERE, {0: share * 0.99})
    with pytest.raises(PolicyError, match=rule):
        put(spectra, plan, sensitivity, HERE, {0: share})
    with pytest.raises(PolicyError, match=rule):
        put(spectra, plan, sensitivity, HERE, {0: share * 0.8, 1: share * 0.8})


def test_a_worked_case_by_hand():
    # Σσ = 10, σ′₀ = 2 leaves 8 for 3 + 2 + 1, so c = 4/3 and component 0 asks for 0.5/c
    spectra, sensitivity = adapter([4.0, 3.0, 2.0, 1.0], 0)
    plan = put(spectra, EditPlan(Identity()), sensitivity, HERE, {0: 0.5})
    assert plan.manual == {HERE: {0: pytest.approx(0.375)}}
    np.testing.assert_allclose(after(spectra, plan, sensitivity), [2.0, 4.0, 8 / 3, 4 / 3])


def test_with_every_component_named_their_proportions_hold():
    spectra, sensitivity = adapter([4.0, 3.0, 2.0, 1.0], 0)
    plan = put(spectra, EditPlan(Identity()), sensitivity, HERE, {0: 1.0, 1: 2.0, 2: 1.0, 3: 2.0})
    found = after(spectra, plan, sensitivity)
    assert found.sum() == pytest.approx(10)
    np.testing.assert_allclose(found / found[0], [1.0, 1.5, 0.5, 0.5])


@given(
    sigma=sigmas,
    seed=st.integers(0, 99),
    policies=st.permutations(POLICIES),
    rule=st.sampled_from(["l1", "l2", "none"]),
    data=st.data(),
)
def test_hold_changes_nothing_now_and_keeps_its_gain_under_another_policy(sigma, seed, policies, rule, data):
    spectra, sensitivity = adapter(sigma, seed)
    first, second = policies[:2]
    chosen = data.draw(st.sets(st.integers(0, len(sigma) - 1), min_size=1))
    plan = EditPlan(first, energy=rule)
    held = hold(spectra, plan, sensitivity, HERE, chosen)
    assert set(held.manual[HERE]) == chosen
    np.testing.assert_allclose(after(spectra, held, sensitivity), after(spectra, plan, sensitivity), rtol=1e-9)
    before_energy = after(spectra, replace(plan, energy="none"), sensitivity)
    later = replace(held, policy=second, energy="none")
    at = sorted(chosen)
    np.testing.assert_allclose(after(spectra, later, sensitivity)[at], before_energy[at], rtol=1e-12)


@given(sigma=sigmas, seed=st.integers(0, 99), policy=st.sampled_from(POLICIES), data=st.data())
def test_release_undoes_hold_and_put(sigma, seed, policy, data):
    spectra, sensitivity = adapter(sigma, seed)
    plan = EditPlan(policy, energy="none", sigma_min=0.0)
    chosen = data.draw(st.sets(st.integers(0, len(sigma) - 1), min_size=1))
    assert release(hold(spectra, plan, sensitivity, HERE, chosen), HERE, chosen) == plan
    placed = put(spectra, plan, sensitivity, HERE, dict.fromkeys(chosen, 0.5))
    assert release(placed, HERE, chosen) == plan


def test_release_leaves_other_components_and_modules_by_hand():
    plan = EditPlan(Identity(), manual={HERE: {0: 0.5, 1: 2.0}, THERE: {0: 0.1}}, sigma_min=0.25, energy="l2")
    assert release(plan, HERE, [0, 3]) == replace(plan, manual={HERE: {1: 2.0}, THERE: {0: 0.1}})
    assert release(plan, "nowhere", [0]) == plan


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj", "nowhere"])
def test_a_module_outside_the_scope_is_refused(name):
    spectra, sensitivity = adapter([2.0, 1.0], 0)
    spectra["model.layers.0.self_attn.q_proj"] = spectrum("model.layers.0.self_attn.q_proj", [2.0, 1.0])
    for change in (lambda: put(spectra, EditPlan(), sensitivity, name, {0: 0.5}),
                   lambda: hold(spectra, EditPlan(), sensitivity, name, [0])):  # fmt: skip
        with pytest.raises(PolicyError, match="scope"):
            change()


def test_a_plan_with_a_bar_put_by_hand_can_be_written_as_a_recipe():
    spectra = {HERE: spectrum(HERE, [3.0, 2.0, 1.0])}
    plan = put(spectra, EditPlan(Identity()), None, HERE, {0: 0.5})
    recipe = Recipe("a", "", BaseChoice("b"), CalibrationPlan("c"), plan)
    assert parse_recipe(dump_recipe(recipe)) == recipe


def test_a_second_bar_put_by_hand_leaves_the_first_where_it_stands():
    spectra = {HERE: spectrum(HERE, [3.0, 2.0, 1.0, 0.5])}
    plan = put(spectra, EditPlan(Identity()), None, HERE, {0: 0.5})
    plan = put(spectra, plan, None, HERE, {1: 1.5})
    assert plan.apply(spectra, None).modules[HERE].gains[:2] == pytest.approx([0.5, 1.5], rel=1e-12)
