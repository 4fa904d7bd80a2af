"""The energy rule `functional`: Σσ′²q is held, whatever the policy."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.edits import EditPlan, edit_record, make_edit, parse_edit, preview
from surgery.errors import PolicyError
from surgery.policies import POLICIES, GradDirection, Identity, Scale, make_policy
from surgery.sensitivity import InputMoments, Sensitivity
from surgery.spectra import null_components
from tests.helpers.policies import measured, spectrum

RANK = 6
NAMES = ("a.0.o_proj", "b.0.down_proj", "c.1.o_proj")


def moments(seed: int, names=NAMES) -> InputMoments:
    rng = np.random.default_rng(seed)
    rows = {name: rng.standard_normal((9, RANK)) * rng.lognormal(0, 2, RANK) for name in names}
    prompt, answer = ({name: x[part].T @ x[part] for name, x in rows.items()} for part in (slice(6), slice(6, 9)))
    return InputMoments(prompt, answer, tokens={"prompt": 6, "answer": 3})


def adapter(seed: int, inputs: InputMoments | None) -> tuple[dict, Sensitivity]:
    rng = np.random.default_rng(seed)
    spectra = {name: spectrum(name, np.sort(rng.random(RANK) + 0.05)[::-1]) for name in NAMES}
    return spectra, replace(measured({name: rng.standard_normal((7, RANK)) for name in NAMES}), inputs=inputs)


@pytest.mark.parametrize("name", POLICIES)
@given(st.integers(0, 10_000))
def test_every_policy_holds_the_functional_energy_of_every_module_it_edits(name, seed):
    inputs = moments(seed)
    spectra, sensitivity = adapter(seed, inputs)
    # what some policies are not to hurt
    sensitivity = replace(sensitivity, protected=(adapter(seed + 1, inputs)[1],))
    edit = make_edit(spectra, make_policy(name), sensitivity=sensitivity, scope="all", energy="functional")
    for module, edited in edit.modules.items():
        q, live = inputs.q(module), ~null_components(edited.sigma)
        before = math.fsum(edited.sigma[live] ** 2 * q[live])
        after = math.fsum(edited.sigma_after[live] ** 2 * q[live])
        # norms of six terms, a root, a quotient and a product on either side
        assert after == pytest.approx(before, rel=64 * np.finfo(np.float64).eps), (module, edited.skipped)
    assert preview(edit, sensitivity).functional_energy_ratio == pytest.approx(1, rel=1e-13)


@given(st.integers(0, 10_000), st.floats(0.1, 3))
def test_functional_energy_kept_is_the_dense_ratio_over_the_modules_that_were_seen(seed, gamma):
    seen = NAMES[:2]
    inputs = moments(seed, seen)
    spectra, sensitivity = adapter(seed, inputs)
    edit = make_edit(spectra, GradDirection(), sensitivity=sensitivity, scope="all", energy="none")
    total = {"sigma": 0.0, "sigma_after": 0.0}
    for name in seen:
        for which in total:
            values = np.diag(getattr(edit.modules[name], which))
            total[which] += float(np.trace(values @ inputs.of(name) @ values))
    found = preview(edit, sensitivity).functional_energy_ratio
    assert found == pytest.approx(total["sigma_after"] / total["sigma"], rel=1e-12)
    scaled = make_edit(spectra, Scale(gamma=gamma), sensitivity=sensitivity, scope="all", energy="none")
    assert preview(scaled, sensitivity).functional_energy_ratio == pytest.approx(gamma**2, rel=1e-12)


def test_a_module_whose_input_was_not_seen_is_left_alone_with_the_reason():
    spectra, sensitivity = adapter(1, moments(1, NAMES[1:]))
    edit = make_edit(spectra, GradDirection(), sensitivity=sensitivity, scope="all", energy="functional")
    assert set(edit.skipped) == {NAMES[0]}
    assert "second moments of this module's input were not measured" in edit.skipped[NAMES[0]]
    np.testing.assert_array_equal(edit.modules[NAMES[0]].sigma_after, edit.modules[NAMES[0]].sigma)
    assert (edit.modules[NAMES[1]].gains != 1).any()


@pytest.mark.parametrize("policy", [GradDirection(), Identity()])
def test_a_measurement_without_inputs_is_refused_with_the_command_that_makes_one(policy):
    spectra, sensitivity = adapter(1, None)
    with pytest.raises(PolicyError, match="measured without them") as refused:
        make_edit(spectra, policy, sensitivity=sensitivity, energy="functional")
    assert "surgery calibrate ADAPTER --out FILE" in refused.value.remedy
    with pytest.raises(PolicyError, match="none were given"):
        make_edit(spectra, policy, sensitivity=None, energy="functional")
    assert math.isnan(
        preview(make_edit(spectra, policy, sensitivity=sensitivity), sensitivity).functional_energy_ratio
    )


def test_a_recipe_names_the_rule_and_asks_for_a_measurement():
    plan = EditPlan(Identity(), energy="functional")
    assert plan.needs_sensitivity
    assert parse_edit(edit_record(plan)) == plan
