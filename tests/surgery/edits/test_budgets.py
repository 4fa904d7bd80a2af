"""A budget is expected of what the first examples alone say, and no budget is invented."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.edits import EditPlan, budgets, expected, expected_by_budget
from surgery.errors import PolicyError
from surgery.policies import GradDirection, NaturalGradient
from tests.helpers.policies import measured, spectrum

NAME = "model.layers.0.self_attn.o_proj"
SPECTRA = {NAME: spectrum(NAME, [4.0, 3.0, 2.0, 1.0])}
VALUES = np.random.default_rng(5).normal(0.1, 0.4, (100, 4))
SENSITIVITY = replace(measured({NAME: VALUES}), answer_tokens=np.arange(1, 101))


@pytest.mark.parametrize("policy", [GradDirection(), NaturalGradient()])
def test_each_budget_is_the_expectation_from_a_measurement_of_these_rows_alone(policy):
    plan = EditPlan(policy)
    found = dict(expected_by_budget(plan, SPECTRA, SENSITIVITY))
    assert list(found) == [32, 64, 100]
    for count, each in found.items():
        alone = replace(measured({NAME: VALUES[:count]}), answer_tokens=np.arange(1, count + 1))
        assert each == expected(plan, SPECTRA, alone)


def test_a_module_that_was_not_measured_is_refused():
    with pytest.raises(PolicyError, match="no sensitivities"):
        expected_by_budget(EditPlan(), SPECTRA, measured({"model.layers.9.self_attn.o_proj": VALUES}))


def test_examples_whose_answers_were_not_counted_still_have_a_linear_part_and_too_few_have_nothing():
    counted = replace(SENSITIVITY, answer_tokens=None)
    assert [count for count, _ in expected_by_budget(EditPlan(), SPECTRA, counted)] == [32, 64, 100]
    assert expected_by_budget(EditPlan(), SPECTRA, SENSITIVITY.head(5)) == ()


@given(st.integers(0, 5000))
def test_budgets_double_from_32_and_end_with_all_examples(examples):
    found = budgets(examples)
    assert all(count == 32 * 2**place for place, count in enumerate(found[:-1]))
    assert found[-1:] == ((examples,) if examples >= 8 else ())
    assert list(found) == sorted(set(found))
    assert examples < 2 * (found[-2] if len(found) > 1 else max(32, examples))  # no doubling is left out
