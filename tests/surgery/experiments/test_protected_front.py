"""The front along μ or ε: each point is the edit of its plan; its ends are natural_gradient and nearly nothing."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from surgery.edits import EditPlan, expected
from surgery.errors import PolicyError
from surgery.experiments import BOUNDS, WEIGHTS, front_name, front_place, measure_front, protected_front, spread
from surgery.policies import GradDirection, NaturalGradient, Protected
from surgery.sensitivity import calibration_slice, measure_sensitivity
from tests.helpers.policies import measured, spectrum, with_protected
from tests.helpers.workplace import workplace

RNG = np.random.default_rng(4)
SPECTRA = {name: spectrum(name, [9.0, 8.0, 7.0]) for name in ("model.layers.0.o_proj", "model.layers.1.o_proj")}
SENSITIVITY = with_protected(measured({name: RNG.normal(0.3, 1, (24, 3)) for name in SPECTRA}))


def test_a_front_begins_at_the_natural_step_and_costs_the_protected_slice_ever_less():
    plan = EditPlan(NaturalGradient(eta=0.2, damping=0.7), energy="none")
    front = protected_front(plan, SPECTRA, SENSITIVITY)
    assert [point.value for point in front] == list(WEIGHTS)
    assert front[0].target.mean == pytest.approx(expected(plan, SPECTRA, SENSITIVITY).mean, rel=1e-6)
    assert front[-1].protected[0].curvature < front[0].protected[0].curvature
    assert all(point.plan.policy == Protected(0.2, 0.7, point.value) for point in front)


def test_a_front_keeps_the_rules_of_the_plan_that_it_starts_from():
    own = EditPlan(Protected(limited=True, limit=0.01), "all", "none", 0.1, strength=0.5)
    (point,) = protected_front(own, SPECTRA, SENSITIVITY, [3.0])
    assert point.plan == replace(own, policy=replace(own.policy, mu=3.0))
    (other,) = protected_front(EditPlan(GradDirection()), SPECTRA, SENSITIVITY, [3.0])
    assert other.plan == EditPlan(Protected(mu=3.0))


def test_every_point_along_the_bound_keeps_to_it_and_gains_more_where_more_may_be_lost():
    plan = EditPlan(NaturalGradient(eta=0.2, damping=0.7), energy="none")
    target = measured({name: RNG.normal(0.3, 1, (24, 3)) for name in SPECTRA})
    against = measured(
        {name: RNG.normal(-0.3, 1, (20, 3)) for name in SPECTRA}
    )  # what helps the one hurts the other
    sensitivity = replace(target, protected=(replace(against, answer_tokens=np.full(20, 3)),))
    front = protected_front(plan, SPECTRA, sensitivity, along="ε")
    assert [point.value for point in front] == list(BOUNDS)
    assert [front_name(point) for point in front][:2] == ["ε 0", "ε 0.001"]
    tokens, gains = 3, []
    for point in front:
        edit = point.plan.apply(SPECTRA, sensitivity)
        moved = {name: module.sigma_after - module.sigma for name, module in edit.modules.items()}
        changes = sum(against.values[name] @ moved[name] for name in moved)
        lost = changes.mean() + tokens / 2 * np.mean(changes**2)
        assert lost <= point.value + 1e-12
        gains.append(sum(target.values[name].mean(axis=0) @ moved[name] for name in moved))
    assert gains[0] == 0, "whatever helps is paid for here"
    assert all(later < earlier for earlier, later in itertools.pairwise(gains)), "every bound binds here"


def test_a_bound_that_nothing_reaches_leaves_the_natural_step():
    plan = EditPlan(NaturalGradient(eta=0.001, damping=0.7), energy="none")
    (beside,) = SENSITIVITY.protected
    counted = replace(SENSITIVITY, protected=(replace(beside, answer_tokens=np.full(beside.examples, 3)),))
    (loose,) = protected_front(plan, SPECTRA, counted, [0.2], along="ε")
    (natural,) = protected_front(plan, SPECTRA, counted, [0.0])
    for name, sigma in natural.plan.apply(SPECTRA, counted).sigma_after.items():
        assert not np.array_equal(sigma, SPECTRA[name].sigma)
        np.testing.assert_array_equal(loose.plan.apply(SPECTRA, counted).sigma_after[name], sigma)


def test_a_plan_knows_its_place_on_either_front():
    assert front_place(EditPlan(), "μ") == front_place(EditPlan(), "ε") == ""
    weighted, bound = EditPlan(Protected(mu=2.0)), EditPlan(Protected(mu=0.0, limited=True, limit=0.01))
    assert (front_place(weighted, "μ"), front_place(weighted, "ε")) == ("μ 2", "")
    assert (front_place(bound, "μ"), front_place(bound, "ε")) == ("μ 0", "ε 0.01")
    assert front_place(EditPlan(Protected(mu=1.0, limited=True)), "ε") == ""


def test_without_a_protected_slice_there_is_no_front():
    with pytest.raises(PolicyError, match="no slice to protect"):
        protected_front(EditPlan(), SPECTRA, replace(SENSITIVITY, protected=()))


def test_five_points_over_the_whole_front_are_measured():
    front = protected_front(EditPlan(), SPECTRA, SENSITIVITY)
    assert [point.value for point in spread(front)] == [0.0, 0.5, 2.0, 5.0, 20.0]
    assert spread(front[:3]) == front[:3]


def test_a_measured_front_has_an_effect_for_every_slice_and_point(workplace_files):
    here = workplace(workplace_files, workplace_files / "no home")
    with here.attach() as live:
        slice_ = calibration_slice(live, here.calibration)
        sensitivity = with_protected(measure_sensitivity(live, slice_, list(live.spectra)))
        front = protected_front(EditPlan(Protected(eta=0.01)), live.spectra, sensitivity, [0.0, 4.0])
        found = measure_front(live, front, sensitivity, {"own": slice_, "other": slice_})
    assert list(found) == ["own", "other"]
    assert list(found["own"]) == [front_name(point) for point in front] == ["μ 0", "μ 4"]
    assert found["own"]["μ 0"].mean < 0, "the rows that shaped the step gain by a small one"
