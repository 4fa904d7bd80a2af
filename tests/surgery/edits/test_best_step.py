"""The best step is one that no neighbour and no other strength beats, and it leaves the rest of the plan alone."""

from dataclasses import replace

import numpy as np
import pytest

from surgery.edits import EditPlan, best_step, expected, with_knobs
from surgery.errors import PolicyError
from surgery.policies import GradDirection, Identity, NaturalGradient, Scale
from tests.helpers.policies import measured, spectrum

NAMES = ("model.layers.0.self_attn.o_proj", "model.layers.1.mlp.down_proj")
SPECTRA = {NAMES[0]: spectrum(NAMES[0], [4.0, 3.0, 2.0, 1.0]), NAMES[1]: spectrum(NAMES[1], [3.0, 2.0])}
RNG = np.random.default_rng(2)
SLOPES = {NAMES[0]: [0.3, -0.2, 0.1, 0.0], NAMES[1]: [-0.4, 0.2]}
VALUES = {name: RNG.normal(0, 0.4, (80, len(slope))) + slope for name, slope in SLOPES.items()}
SENSITIVITY = replace(measured(VALUES), answer_tokens=np.full(80, 2))


def score(plan):
    found = expected(plan, SPECTRA, SENSITIVITY)
    return found.mean + found.standard_error


@pytest.mark.parametrize(
    ("policy", "knobs"),
    [
        (NaturalGradient(), {"eta": 0.01, "damping": 0.05}),
        (GradDirection(), {"eta_suppress": 0.1, "eta_enhance": 0.1}),
        (GradDirection(asymmetric=False), {"eta": 0.1}),
    ],
)
def test_no_neighbour_and_no_strength_is_expected_to_do_better(policy, knobs):
    plan = EditPlan(policy, energy="none", sigma_min=0.01, manual={NAMES[1]: {0: 0.9}})
    best = best_step(plan, SPECTRA, SENSITIVITY)
    assert best.expectation == expected(best.plan, SPECTRA, SENSITIVITY)
    least = score(best.plan)
    assert least < min(0.0, score(plan) + 1e-12)
    for strength in np.arange(1, 31) * 0.05:
        assert score(replace(best.plan, strength=float(strength))) >= least - 1e-12
    whole = replace(best.plan, strength=1.0)
    for knob, step in knobs.items():
        value = getattr(best.plan.policy, knob)
        for near in (value - step, value + step):
            try:
                other = with_knobs(whole, {knob: round(near, 9)})
            except PolicyError:  # out of its range
                continue
            assert score(other) >= score(whole) - 1e-12


def test_everything_but_steps_and_strength_stays():
    plan = EditPlan(GradDirection(power=2.0), energy="l2", sigma_min=0.02, scope="o_proj", strength=0.3)
    best = best_step(plan, SPECTRA, SENSITIVITY).plan
    same = replace(best, policy=replace(best.policy, eta_suppress=2.0, eta_enhance=0.2), strength=0.3)
    assert same == plan


def test_a_policy_without_a_step_has_its_strength_chosen():
    plan = EditPlan(Identity(), manual={NAMES[1]: {0: 2.0}}, energy="none")
    best = best_step(plan, SPECTRA, SENSITIVITY)
    assert replace(best.plan, strength=1.0) == plan
    scores = {strength: score(replace(plan, strength=strength)) for strength in np.arange(1, 31) * 0.05}
    assert score(best.plan) == pytest.approx(min(scores.values()))
    assert best.tried == 30


def test_where_nothing_is_expected_to_help_that_is_said():
    for plan in (EditPlan(Identity()), EditPlan(Scale(0.01))):
        with pytest.raises(PolicyError, match="no step of this policy"):
            best_step(plan, SPECTRA, replace(SENSITIVITY, values={n: g * 0 for n, g in VALUES.items()}))
    with pytest.raises(PolicyError, match="no step of this policy"):
        best_step(EditPlan(GradDirection()), SPECTRA, SENSITIVITY.head(7))


def test_without_a_measurement_nothing_can_be_expected():
    with pytest.raises(PolicyError, match="no sensitivities"):
        best_step(EditPlan(Scale(0.9)), SPECTRA, None)
