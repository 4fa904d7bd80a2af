"""What hurts the protected slices is taken out of a step: no slope is left, in the nearest way, and nothing else moves."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.edits import EditPlan, edit_record, expected_beside, fold_edits, make_edit, parse_edit
from surgery.errors import PolicyError, RecipeError
from surgery.policies import AbsSelect, GradDirection, Identity, NaturalGradient, Scale
from tests.helpers.policies import measured, spectrum

NAMES = {"model.layers.0.o_proj": 4, "model.layers.1.o_proj": 3, "model.layers.1.down_proj": 4}
POLICIES = [GradDirection(), NaturalGradient(eta=0.3), AbsSelect(), Scale(gamma=0.5)]


def _adapter(seed, slices=1, rows=20):
    rng = np.random.default_rng(seed)
    spectra = {name: spectrum(name, np.sort(1 + rng.random(rank))[::-1]) for name, rank in NAMES.items()}

    def one(n):
        g = {name: rng.standard_normal((n, rank)) + rng.standard_normal(rank) for name, rank in NAMES.items()}
        return replace(measured(g), answer_tokens=np.full(n, 3))

    return spectra, replace(one(rows), protected=tuple(one(rows) for _ in range(slices)))


def _end_to_end(sensitivity):
    return np.concatenate([sensitivity.values[name] for name in NAMES], axis=1)


def _step(edit):
    return np.concatenate([edit.modules[name].sigma_after - edit.modules[name].sigma for name in NAMES])


@settings(max_examples=40)
@given(st.integers(0, 9999), st.sampled_from(POLICIES), st.integers(1, 3), st.sampled_from([0.0, 0.9]))
def test_no_protected_slice_is_hurt_to_first_order_whatever_is_clamped(seed, policy, slices, sigma_min):
    spectra, sensitivity = _adapter(seed, slices)
    plan = EditPlan(policy, energy="none", sigma_min=sigma_min, protect=True)
    for strength in (1.0, 0.5):
        edit = replace(plan, strength=strength).apply(spectra, sensitivity)
        step = _step(edit)
        for beside in sensitivity.protected:
            g = _end_to_end(beside).mean(axis=0)
            assert g @ step <= 1e-12 * np.abs(g) @ (np.abs(step) + 1)
        assert all((module.sigma_after >= sigma_min).all() for module in edit.modules.values())


@given(st.integers(0, 9999), st.integers(1, 3))
def test_where_no_clamp_acts_the_step_is_the_nearest_in_the_metric_of_the_target(seed, slices):
    spectra, sensitivity = _adapter(seed, slices)
    plan = EditPlan(NaturalGradient(eta=0.01), energy="none")
    before = _step(plan.apply(spectra, sensitivity))
    after = _step(replace(plan, protect=True).apply(spectra, sensitivity))
    g = _end_to_end(sensitivity)
    fisher = g.T @ g / len(g)
    fisher += 0.3 * np.linalg.eigvalsh(fisher).mean() * np.eye(len(fisher))
    means = np.stack([_end_to_end(beside).mean(axis=0) for beside in sensitivity.protected], axis=1)
    nu, *_ = np.linalg.lstsq(means, fisher @ (before - after), rcond=None)
    assert means @ nu == pytest.approx(fisher @ (before - after), abs=1e-9)
    left = means.T @ after
    size = np.linalg.norm(means, axis=0) * np.linalg.norm(before)
    assert (nu >= -1e-8).all()
    assert (left <= 1e-9 * size).all()
    assert (np.abs(nu * left) <= 1e-7 * size * (1 + nu)).all()


def test_a_step_that_hurts_nobody_keeps_every_bit():
    spectra, sensitivity = _adapter(3)
    plan = EditPlan(GradDirection(), energy="l1")
    own = replace(sensitivity, protected=(replace(sensitivity, protected=()),))
    edit = replace(plan, policy=NaturalGradient(eta=0.01), energy="none").apply(spectra, own)
    same = EditPlan(NaturalGradient(eta=0.01), energy="none", protect=True).apply(spectra, own)
    for name, module in edit.modules.items():
        assert module.sigma_after.tobytes() == same.modules[name].sigma_after.tobytes()


def test_what_a_hand_set_and_what_the_edit_leaves_alone_stay():
    spectra, sensitivity = _adapter(5)
    name = next(iter(NAMES))
    hand = {name: {0: 1.7, 2: 0.4}}
    plan = EditPlan(GradDirection(), energy="none", manual=hand, protect=True)
    module = plan.apply(spectra, sensitivity).modules[name]
    assert module.gains[[0, 2]] == pytest.approx([1.7, 0.4], rel=1e-15)
    alone = EditPlan(Identity(), energy="none", manual=hand, protect=True).apply(spectra, sensitivity)
    for other, module in alone.modules.items():
        if other != name:
            assert module.sigma_after.tobytes() == spectra[other].sigma.tobytes()


def test_the_folds_of_a_spared_edit_are_the_spared_edits_of_the_folds():
    spectra, sensitivity = _adapter(8)
    plan = EditPlan(GradDirection(), energy="l2", protect=True)
    edits = fold_edits(plan, spectra, sensitivity)
    for after, train in zip(edits.after, sensitivity.folds.train, strict=True):
        part = [
            replace(
                measured({name: g[train] for name, g in each.values.items()}),
                answer_tokens=np.full(train.sum(), 3),
            )
            for each in (sensitivity, *sensitivity.protected)
        ]
        alone = plan.apply(spectra, replace(part[0], protected=tuple(part[1:])))
        assert after == pytest.approx(_step(alone) + edits.sigma, rel=1e-9)


def test_an_edit_that_no_protected_row_shaped_is_judged_on_all_of_them():
    spectra, sensitivity = _adapter(8)
    for plan, fitted in ((EditPlan(), False), (EditPlan(protect=True), True), (EditPlan(Scale(gamma=0.9)), False)):
        (found,) = expected_beside(plan, spectra, sensitivity)
        assert (found.folds > 0) == fitted
        if not fitted:
            along = _end_to_end(sensitivity.protected[0]) @ _step(plan.apply(spectra, sensitivity))
            assert found.mean == pytest.approx(along.mean() + 3 / 2 * (along**2).mean())


def test_answers_drawn_from_the_model_are_expected_to_diverge_by_their_curvature_alone():
    spectra, sensitivity = _adapter(8)
    (beside,) = sensitivity.protected
    drawn = replace(beside, provenance=replace(beside.provenance, sampled=1))
    plan = EditPlan(GradDirection(eta_suppress=0.2))
    (found,) = expected_beside(plan, spectra, replace(sensitivity, protected=(drawn,)))
    along = _end_to_end(beside) @ _step(plan.apply(spectra, sensitivity))
    assert found.mean == pytest.approx(3 / 2 * (along**2).mean())
    assert found.linear == 0
    assert not any("bends" in doubt for doubt in found.doubts)


def test_without_a_slope_to_look_at_protection_is_refused_with_the_way_out():
    spectra, sensitivity = _adapter(1)
    plan = EditPlan(GradDirection(), protect=True)
    assert plan.needs_protected
    with pytest.raises(PolicyError, match="there is none") as caught:
        plan.apply(spectra, replace(sensitivity, protected=()))
    assert "--protected" in caught.value.remedy
    (beside,) = sensitivity.protected
    drawn = replace(beside, provenance=replace(beside.provenance, sampled=1))
    with pytest.raises(PolicyError, match="answers of its own"):
        plan.apply(spectra, replace(sensitivity, protected=(drawn,)))
    with pytest.raises(PolicyError, match="none"):
        EditPlan(Scale(gamma=0.9), protect=True).apply(spectra, None)


def test_protection_is_in_the_record_where_it_is_asked_for():
    assert "protect" not in edit_record(EditPlan())
    plan = EditPlan(protect=True)
    assert parse_edit(edit_record(plan)) == plan
    with pytest.raises(RecipeError, match="protect"):
        parse_edit({"policy": "identity", "protect": "yes"})


def test_the_energy_rule_holds_but_for_what_was_taken_out():
    spectra, sensitivity = _adapter(2)
    whole = make_edit(spectra, GradDirection(), sensitivity=sensitivity, energy="l1")
    edit = EditPlan(GradDirection(), energy="l1", protect=True).apply(spectra, sensitivity)
    g = _end_to_end(sensitivity.protected[0]).mean(axis=0)
    assert (g @ _step(whole) > 0) == (np.abs(_step(edit) - _step(whole)).max() > 1e-9)
