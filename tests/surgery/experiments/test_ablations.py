"""The paper's ablations differ from the edit in one thing alone."""

import numpy as np
import pytest

from surgery.edits import EditPlan, make_edit
from surgery.errors import PolicyError
from surgery.experiments import DIAGNOSTICS
from surgery.policies import GradDirection, RandomIndex
from tests.helpers.policies import measured, spectrum
from tests.helpers.refusals import refusal

O0, D0, Q0 = "model.layers.0.self_attn.o_proj", "model.layers.0.mlp.down_proj", "model.layers.0.self_attn.q_proj"
SPECTRA = {name: spectrum(name, [4.0, 2.0, 1.0]) for name in (O0, D0, Q0)}
SENSITIVITY = measured({name: np.random.default_rng(n).normal(size=(20, 3)) for n, name in enumerate(SPECTRA)})
PLAN = EditPlan(GradDirection(), manual={O0: {0: 0.5}})
ENERGY, BUDGET, SCOPE = (each.variants for each in DIAGNOSTICS)


def assert_same(found, expected) -> None:
    assert list(found.modules) == list(expected.modules)
    for name, module in expected.modules.items():
        np.testing.assert_array_equal(found.modules[name].sigma_after, module.sigma_after)


def test_each_stands_for_its_table_of_the_paper():
    assert [(each.purpose, each.table) for each in DIAGNOSTICS] == [("energy", 3), ("budget", 4), ("scope", 5)]


def test_energy_rules_keep_their_norm_and_nothing_else_differs():
    found = ENERGY(SPECTRA, PLAN, SENSITIVITY)
    assert list(found.edits) == list(found.plans)
    before = SPECTRA[D0].sigma
    after = {name.removeprefix("energy "): edit.sigma_after[D0] for name, edit in found.edits.items()}
    np.testing.assert_allclose(np.sum(after["l1"]), np.sum(before))
    np.testing.assert_allclose(np.linalg.norm(after["l2"]), np.linalg.norm(before))
    np.testing.assert_allclose(after["l1"] / after["l1"][0], after["none"] / after["none"][0])
    assert {plan.manual[O0][0] for plan in found.plans.values()} == {0.5}


def test_budgets_are_edits_of_the_first_examples():
    found = BUDGET(SPECTRA, PLAN, SENSITIVITY)
    assert list(found.edits) == ["8 examples", "16 examples", "20 examples"]
    first = measured({name: g[:8] for name, g in SENSITIVITY.values.items()})
    expected = make_edit(SPECTRA, PLAN.policy, sensitivity=first, manual=PLAN.manual)
    assert_same(found.edits["8 examples"], expected)
    assert_same(found.edits["20 examples"], PLAN.apply(SPECTRA, SENSITIVITY))


@pytest.mark.parametrize(("plan", "sensitivity"), [(EditPlan(RandomIndex()), SENSITIVITY), (PLAN, None)])
def test_no_budget_changes_what_reads_no_sensitivities(plan, sensitivity):
    assert "budget" in refusal(PolicyError, BUDGET, SPECTRA, plan, sensitivity)


def test_scopes_are_those_that_the_adapter_has_and_drop_gains_outside_them():
    found = SCOPE(SPECTRA, PLAN, SENSITIVITY)
    assert next(iter(found.edits)) == "scope residual"
    modules = {name: set(edit.modules) for name, edit in found.edits.items()}
    assert modules["scope residual"] == {O0, D0}
    assert modules["scope all"] == {O0, D0, Q0}
    for name, plan in found.plans.items():
        assert (O0 in plan.manual) == (O0 in modules[name])
        assert name == f"scope {plan.scope}"
