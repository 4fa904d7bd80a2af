"""What is expected of an edit, against the arithmetic written out and against rows that did not shape it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.edits import Edit, EditPlan, ModuleEdit, expected, expected_from, expected_of_edit, fold_edits
from surgery.policies import AbsSelect, GradDirection, NaturalGradient, RandomIndex
from tests.helpers.policies import measured, spectrum

NAMES = ("model.layers.0.self_attn.o_proj", "model.layers.1.mlp.down_proj")
SPECTRA = {NAMES[0]: spectrum(NAMES[0], [4.0, 3.0, 2.0, 1.0]), NAMES[1]: spectrum(NAMES[1], [3.0, 2.0])}
RNG = np.random.default_rng(4)
VALUES = {name: RNG.normal(0.1, 1.0, (24, each.rank)) for name, each in SPECTRA.items()}
TOKENS = RNG.integers(1, 9, 24)
SENSITIVITY = replace(measured(VALUES), answer_tokens=TOKENS)


@pytest.mark.parametrize("policy", [GradDirection(), AbsSelect(), NaturalGradient(eta=0.05)])
@pytest.mark.parametrize("strength", [0.4, 1.0, 1.5])
def test_the_expectation_is_that_of_every_example_under_the_edit_of_the_others(policy, strength):
    plan = EditPlan(policy, strength=strength)
    changes = np.zeros((3, 24))
    for number, held in enumerate(SENSITIVITY.folds.held):
        edit = plan.apply(SPECTRA, measured({name: g[~held] for name, g in VALUES.items()}))
        for name, module in edit.modules.items():
            changes[number // 8, held] += VALUES[name][held] @ (module.sigma_after - module.sigma)
    by_example = (changes + TOKENS / 2 * changes**2).mean(axis=0)
    found = expected(plan, SPECTRA, SENSITIVITY)
    assert found.mean == pytest.approx(by_example.mean(), rel=1e-9)
    assert found.linear == pytest.approx(changes.mean(), rel=1e-9)
    assert found.curvature == pytest.approx((TOKENS / 2 * changes**2).mean(), rel=1e-9)
    assert found.standard_error == pytest.approx(by_example.std(ddof=1) / 24**0.5, rel=1e-9)
    assert (found.examples, found.folds) == (24, 8)
    assert (found.low + found.high) / 2 == pytest.approx(found.mean)


def test_an_edit_that_no_example_has_shaped_needs_no_folds():
    plan = EditPlan(RandomIndex())
    edit = plan.apply(SPECTRA, None)
    change = sum(VALUES[name] @ (module.sigma_after - module.sigma) for name, module in edit.modules.items())
    found = expected_of_edit(edit, SENSITIVITY)
    assert found.linear == pytest.approx(change.mean())
    assert found.linear == pytest.approx(found.first_order)
    assert found.mean == pytest.approx((change + TOKENS / 2 * change**2).mean())
    assert found.folds == 0
    assert expected(plan, SPECTRA, SENSITIVITY) == found


def test_an_edit_that_is_derived_from_the_edit_of_every_fold_is_expected_so():
    plan = EditPlan(GradDirection())
    edits = fold_edits(plan, SPECTRA, SENSITIVITY)
    half = expected_from(replace(edits, after=(edits.sigma + edits.after) / 2), SENSITIVITY)
    assert half.mean == pytest.approx(expected(replace(plan, strength=0.5), SPECTRA, SENSITIVITY).mean)


def test_the_identity_changes_nothing_and_is_not_doubted():
    edit = EditPlan(AbsSelect(), strength=0.0).apply(SPECTRA, SENSITIVITY)
    found = expected_of_edit(edit, replace(measured({n: np.tile(g, (4, 1)) for n, g in VALUES.items()})))
    assert (found.mean, found.linear, found.standard_error, found.doubts) == (0.0, 0.0, 0.0, ())


def test_without_counts_of_tokens_the_curvature_is_not_told_and_it_is_said_what_to_do():
    found = expected(EditPlan(GradDirection()), SPECTRA, measured(VALUES))
    assert np.isnan(found.curvature)
    assert found.mean == found.linear
    assert any("calibrate again" in doubt for doubt in found.doubts)


def test_too_few_examples_are_said_and_give_no_number():
    found = expected(EditPlan(GradDirection()), SPECTRA, SENSITIVITY.head(7))
    assert np.isnan([found.mean, found.linear, found.standard_error, found.low, found.high]).all()
    assert np.isfinite(found.first_order)
    assert found.doubts == ("7 examples are too few to hold some out: calibrate on 8 or more, better 128",)


def test_a_step_that_overflows_in_some_fold_only_has_no_expectation_and_is_no_error():
    """One example holds the others' direction back; held out, its fold's gain is beyond all numbers."""
    g = np.full((24, 2), -1e-9)
    g[:, 1] = 0.0
    g[0] = [0.0, 3e-6]
    alone = replace(measured({NAMES[1]: g}), answer_tokens=TOKENS)
    spectra = {NAMES[1]: spectrum(NAMES[1], [1e308, 1e300])}
    plan = EditPlan(GradDirection(eta_enhance=4.0, eta_suppress=0.0), energy="none")
    plan.apply(spectra, alone)
    found = expected(plan, spectra, alone)
    assert np.isnan(found.mean)
    assert np.isfinite(found.first_order)
    assert "overflow" in found.doubts[0]


def test_a_step_beyond_the_quadratic_model_and_few_examples_are_doubted():
    doubts = expected(EditPlan(GradDirection(eta_suppress=4.0, eta_enhance=4.0)), SPECTRA, SENSITIVITY).doubts
    assert any("the loss bends" in doubt for doubt in doubts)
    assert any("24 examples are few" in doubt for doubt in doubts)


def test_what_moves_a_component_without_a_finite_measurement_has_no_number():
    values = {name: g.copy() for name, g in VALUES.items()}
    values[NAMES[0]][2, 1] = np.nan
    broken = replace(measured(values), answer_tokens=TOKENS)
    sigma = {name: each.sigma for name, each in SPECTRA.items()}
    still = {name: ModuleEdit(np.ones_like(s), s, s.copy()) for name, s in sigma.items()}
    moved = {**still, NAMES[0]: replace(still[NAMES[0]], sigma_after=sigma[NAMES[0]] * 0.5)}
    assert expected_of_edit(Edit(still), broken).mean == 0.0
    found = expected_of_edit(Edit(moved), broken)
    assert np.isnan(found.mean)
    assert any("not a number" in doubt for doubt in found.doubts)


def test_an_edit_of_modules_that_were_not_measured_has_no_expectation():
    other = spectrum("model.layers.7.mlp.down_proj", [2.0, 1.0])
    edit = EditPlan(RandomIndex()).apply({other.name: other}, None)
    assert expected_of_edit(edit, SENSITIVITY) is None
    assert expected(EditPlan(RandomIndex()), SPECTRA, None) is None


@given(seed=st.integers(0, 500))
def test_what_only_noise_has_shaped_is_not_expected_to_help(seed):
    """Of a gradient without a mean the examples that chose the step promise a gain, and the others none."""
    rng = np.random.default_rng(seed)
    noise = measured({name: rng.standard_normal((64, each.rank)) for name, each in SPECTRA.items()})
    found = expected(EditPlan(GradDirection(eta_suppress=0.1, eta_enhance=0.1), energy="none"), SPECTRA, noise)
    assert found.first_order < 0
    assert found.mean > found.first_order
