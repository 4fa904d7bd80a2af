"""Expectations of controls against sums over folds by hand, and where they cannot be told."""

from dataclasses import replace

import numpy as np
import pytest

from surgery.edits import EditPlan, expected
from surgery.evaluation import SAME_ENERGY, SAME_SUM, SHAPE_CONTROLS, SHAPE_ONLY
from surgery.experiments import (
    CONTROLS,
    EDIT,
    READS_Q,
    control_of,
    flat_of,
    input_energies,
    shape_expectations,
)
from surgery.policies import GradDirection, RandomIndex, make_policy
from tests.helpers.input_moments import with_moments
from tests.helpers.policies import measured, spectrum

SPECTRA = {
    f"model.layers.{layer}.{part}": spectrum(f"model.layers.{layer}.{part}", [4.0, 3.0, 2.0, 1.0])
    for layer in range(3)
    for part in ("self_attn.o_proj", "mlp.down_proj")
}


def a_measurement(examples: int = 48):
    rng = np.random.default_rng(2)
    found = measured({name: rng.normal(0.05, 0.2, (examples, 4)) for name in SPECTRA})
    return with_moments(replace(found, answer_tokens=rng.integers(1, 5, examples)))


def test_the_edit_is_expected_as_the_headline_expects_it():
    known, plan = a_measurement(), EditPlan(GradDirection(), "all", "none")
    found = shape_expectations(plan, SPECTRA, known)
    assert list(found) == [EDIT, *(name for name in SHAPE_CONTROLS if name != SAME_SUM)]
    headline = expected(plan, SPECTRA, known)
    assert replace(found[EDIT], first_order=headline.first_order) == headline


@pytest.mark.parametrize("policy", [GradDirection(), make_policy("natural_gradient")])
def test_each_fold_has_controls_of_its_own_edit(policy):
    known, plan = a_measurement(), EditPlan(policy, "all", "none")
    found = shape_expectations(plan, SPECTRA, known)
    folds, tokens = known.folds, known.answer_tokens
    for name in (SAME_ENERGY, SHAPE_ONLY):
        changes = np.zeros((folds.shuffles, known.examples))
        for fold, held in enumerate(folds.held):
            rows = {module: g[~held] for module, g in known.values.items()}
            fitted = replace(known, values=rows, losses=known.losses[~held], answer_tokens=tokens[~held])
            edit = plan.apply(SPECTRA, fitted)
            control = control_of(edit, CONTROLS[name], flat_of(edit, SPECTRA, input_energies(known)))
            for module, each in control.modules.items():
                moved = each.sigma_after - each.sigma
                changes[fold // folds.count, held] += known.values[module][held] @ moved
        by_example = changes.mean(axis=0) + tokens / 2 * (changes**2).mean(axis=0)
        np.testing.assert_allclose(found[name].mean, by_example.mean(), rtol=1e-6)


def test_an_edit_that_no_example_has_shaped_is_judged_on_all_of_them():
    known, plan = a_measurement(), EditPlan(RandomIndex(amp=2.0), "all", "none")
    edit = plan.apply(SPECTRA, None)
    found = shape_expectations(plan, SPECTRA, known, edit)
    control = control_of(edit, CONTROLS[SAME_ENERGY], flat_of(edit, SPECTRA, input_energies(known)))
    changes = sum(known.values[n] @ (m.sigma_after - m.sigma) for n, m in control.modules.items())
    wanted = (changes + known.answer_tokens / 2 * changes**2).mean()
    np.testing.assert_allclose(found[SAME_ENERGY].mean, wanted, rtol=1e-9)


def test_without_moments_the_controls_that_read_them_are_missing():
    known = replace(a_measurement(), inputs=None)
    found = shape_expectations(EditPlan(GradDirection(), "all", "none"), SPECTRA, known)
    assert set(found) == {EDIT} | {n for n, each in CONTROLS.items() if each not in READS_Q and n != SAME_SUM}


def test_too_few_examples_expect_nothing():
    assert shape_expectations(EditPlan(GradDirection(), "all", "none"), SPECTRA, a_measurement(3)) == {}
