"""The policies that step along the gradient against their formulas, in plain Python."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from surgery.edits import make_edit, preview
from surgery.errors import PolicyError
from surgery.policies import AbsSelect, GradDirection, NaturalGradient, SmoothAbs
from tests.helpers.policies import evidence, gains_of, measured, normalised, quantile, signed, spectrum


@given(signed, st.floats(0, 3), st.floats(0, 1), st.sampled_from([0.5, 1.0, 2.0]))
def test_grad_direction_follows_its_formula(g, suppress, enhance, power):
    unit = normalised(g, "mean")
    expected = [math.exp(-(suppress * max(v, 0.0) ** power - enhance * max(-v, 0.0))) for v in unit]
    policy = GradDirection(eta_suppress=suppress, eta_enhance=enhance, power=power)
    assert gains_of(policy, evidence(g=g)) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    symmetric = gains_of(dataclasses.replace(policy, asymmetric=False, eta=0.7), evidence(g=g))
    assert symmetric == pytest.approx([math.exp(-0.7 * v) for v in unit], rel=1e-9)


@given(signed)
def test_a_positive_gradient_lowers_the_gain_and_a_negative_one_raises_it(g):
    for policy in (GradDirection(), GradDirection(asymmetric=False)):
        for slope, gain in zip(g, gains_of(policy, evidence(g=g)), strict=True):
            if slope > 0:
                assert gain < 1 or slope < 1e-9 * max(g)
            elif slope < 0:
                assert gain > 1 or -slope < 1e-9 * max(map(abs, g))
            else:
                assert gain == 1


def test_grad_direction_matches_a_table_computed_by_hand():
    # mean |g| = 2, so g̃ = 1, −2, 0.5, −0.5
    gains = gains_of(GradDirection(), evidence(g=[2.0, -4.0, 1.0, -1.0]))
    assert gains == pytest.approx([math.exp(-2), math.exp(0.4), math.exp(-1), math.exp(0.1)], rel=1e-14)


@given(signed, st.sampled_from([1e-8, 3.0, 1e6]))
def test_the_unit_of_the_sensitivities_does_not_matter(g, unit):
    scaled = [unit * v for v in g]
    for policy in (GradDirection(), AbsSelect(), SmoothAbs()):
        before, after = gains_of(policy, evidence(g=g)), gains_of(policy, evidence(g=scaled))
        if isinstance(policy, SmoothAbs):
            x = sorted(normalised([abs(v) for v in g], "mean"))
            # where the spread is at rounding level the gate is a step, and rounding picks the side
            assume(quantile(x, 0.8) - quantile(x, 0.2) > 1e-6)
        assert after == pytest.approx(before, rel=1e-6)


def test_the_natural_step_solves_the_dense_system_of_the_whole_scope():
    rng = np.random.default_rng(0)
    n, sizes = 7, {"model.layers.0.o_proj": 4, "model.layers.1.o_proj": 3, "model.layers.1.down_proj": 4}
    g = {name: rng.standard_normal((n, rank)) for name, rank in sizes.items()}
    spectra = {name: spectrum(name, 1 + rng.random(rank)) for name, rank in sizes.items()}
    policy = NaturalGradient(eta=0.05, damping=0.7)
    edit = make_edit(spectra, policy, sensitivity=measured(g), energy="none")
    whole = np.concatenate(list(g.values()), axis=1)
    fisher = whole.T @ whole / n
    eigenvalues = np.linalg.eigvalsh(fisher)
    damp = 0.7 * eigenvalues[eigenvalues > 1e-9].mean()
    step = np.linalg.solve(fisher + damp * np.eye(len(fisher)), whole.mean(axis=0))
    sigma = np.concatenate([spectra[name].sigma for name in sizes])
    after = np.concatenate([edit.modules[name].sigma_after for name in sizes])
    assert after == pytest.approx(sigma - 0.05 * step, rel=1e-10)


@given(seed=st.integers(0, 1000), eta=st.floats(0.001, 0.2), damping=st.floats(0.05, 10))
def test_the_natural_step_never_foretells_a_rise_of_the_loss(seed, eta, damping):
    rng = np.random.default_rng(seed)
    g = {"model.layers.0.o_proj": rng.standard_normal((9, 5)) + 0.3}
    spectra = {name: spectrum(name, 1 + rng.random(5)) for name in g}
    policy = NaturalGradient(eta=eta, damping=damping)
    edit = make_edit(spectra, policy, sensitivity=measured(g), energy="none")
    assert preview(edit, measured(g)).predicted <= 1e-12


def test_the_natural_step_asks_for_a_scope_where_it_is_given_a_module_alone():
    with pytest.raises(PolicyError, match="whole scope"):
        NaturalGradient().gains(evidence([1.0, 2.0]))


def test_the_damping_is_relative_to_the_mean_eigenvalue_in_a_scope_smaller_than_the_examples_too():
    g = np.random.default_rng(1).standard_normal((40, 3))
    sigma = np.array([3.0, 2.0, 1.0])
    fisher = g.T @ g / 40
    damp = 0.5 * np.linalg.eigvalsh(fisher).mean()
    step = np.linalg.solve(fisher + damp * np.eye(3), g.mean(axis=0))
    gains = NaturalGradient(eta=0.1, damping=0.5).gains_in_scope(
        sigma, measured({"m": g}).moments.of_scope(["m"])
    )[0]
    assert gains == pytest.approx(1 - 0.1 * step / sigma, rel=1e-10)
