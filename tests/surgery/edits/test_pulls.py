"""Pulls against sums written out row by row, edits made without each row, and what is expected of the whole edit."""

from dataclasses import replace

import numpy as np
import pytest

from surgery.edits import EditPlan, component_pulls, expected, pulls
from surgery.errors import PolicyError
from surgery.policies import GradDirection, Scale
from tests.helpers.policies import measured, spectrum
from tests.helpers.refusals import refusal

NAMES = ("layers.0.self_attn.o_proj", "layers.1.mlp.down_proj")
PLAN = EditPlan(GradDirection(eta_suppress=0.4), "all", "none")


def plain(examples=24, seed=0, spread=0.5):
    rng = np.random.default_rng(seed)
    spectra = {name: spectrum(name, [5.0, 3.0, 1.0]) for name in NAMES}
    values = {name: rng.normal(rng.normal(size=3), spread, (examples, 3)) for name in NAMES}
    return spectra, replace(measured(values), answer_tokens=rng.integers(1, 9, examples))


def without(sensitivity, rows):
    """The measurement of the other examples alone."""
    kept = np.setdiff1d(np.arange(sensitivity.examples), rows)
    values = {name: g[kept] for name, g in sensitivity.values.items()}
    tokens = sensitivity.answer_tokens[kept]
    return replace(sensitivity, values=values, losses=sensitivity.losses[kept], answer_tokens=tokens)


def pull_by_hand(sensitivity, spectra, edit, row) -> float:
    return sum(
        float(sensitivity.values[name][row, k] * (edit.modules[name].sigma_after[k] - spectra[name].sigma[k]))
        for name in NAMES
        for k in range(3)
    )


def test_a_row_pulls_on_the_edits_that_were_made_without_it():
    spectra, sensitivity = plain()
    found = pulls(PLAN, spectra, sensitivity)
    folds = sensitivity.folds
    held = np.zeros((folds.shuffles, sensitivity.examples))
    for number, out in enumerate(folds.held):
        rows = np.flatnonzero(out)
        edit = PLAN.apply(spectra, without(sensitivity, rows))
        for row in rows:
            held[number // folds.count, row] = pull_by_hand(sensitivity, spectra, edit, row)
    np.testing.assert_allclose(found.held, held.mean(axis=0), rtol=1e-9, atol=1e-12)
    edit = PLAN.apply(spectra, sensitivity)
    own = [pull_by_hand(sensitivity, spectra, edit, row) for row in range(sensitivity.examples)]
    np.testing.assert_allclose(found.own, own, rtol=1e-9, atol=1e-12)
    assert found.fitted
    np.testing.assert_array_equal(found.told, found.held)
    told = expected(PLAN, spectra, sensitivity)
    assert (found.held.mean(), found.own.mean()) == (pytest.approx(told.linear), pytest.approx(told.first_order))


def test_a_row_pulls_the_edit_it_shapes_towards_itself():
    spectra, sensitivity = plain(spread=3.0)
    found = pulls(PLAN, spectra, sensitivity)
    assert found.own.mean() < found.held.mean()


def test_an_edit_that_no_row_has_shaped_has_one_number():
    spectra, sensitivity = plain()
    found = pulls(EditPlan(Scale(gamma=0.5), "all", "none"), spectra, sensitivity)
    by_hand = [
        sum(-0.5 * sensitivity.values[name][row] @ spectra[name].sigma for name in NAMES) for row in range(24)
    ]
    assert not found.fitted
    np.testing.assert_allclose(found.own, by_hand, rtol=1e-12)
    np.testing.assert_array_equal(found.held, found.own)


@pytest.mark.parametrize("gain", [0.0, 1.5])
def test_one_component_pulls_by_its_own_slope(gain):
    spectra, sensitivity = plain()
    found = component_pulls(spectra, sensitivity, NAMES[1], 1, gain=gain)
    wanted = sensitivity.values[NAMES[1]][:, 1] * (gain - 1) * 3.0
    np.testing.assert_allclose(found.told, wanted, rtol=1e-12)
    assert list(found.sigma_after) == [NAMES[1]]
    np.testing.assert_array_equal(found.sigma_after[NAMES[1]], [5.0, 3.0 * gain, 1.0])


def test_shares_and_what_cancels_are_counted_by_hand():
    spectra, sensitivity = plain(4)
    g = np.zeros((4, 3))
    g[:, 0] = [2.0, -1.0, 0.0, 0.5]
    values = {NAMES[0]: g, NAMES[1]: sensitivity.values[NAMES[1]]}
    found = component_pulls(spectra, replace(sensitivity, values=values), NAMES[0], 0)
    assert found.told.tolist() == [-10.0, 5.0, 0.0, -2.5]
    assert found.order.tolist() == [0, 3, 2, 1]
    assert (found.helped, found.hurt) == (0.5, 0.25)
    assert found.cancelled == pytest.approx(1 - 7.5 / 17.5)
    nobody = component_pulls(spectra, sensitivity, NAMES[0], 0, gain=1.0)
    assert np.isnan(nobody.cancelled)


def test_too_few_rows_are_ranked_by_the_edit_that_they_shaped():
    spectra, sensitivity = plain(5)
    found = pulls(PLAN, spectra, sensitivity)
    assert np.isnan(found.held).all()
    np.testing.assert_array_equal(found.told, found.own)


def test_an_edit_that_cannot_be_made_without_some_rows_is_ranked_by_the_rows_that_shaped_it():
    spectra, sensitivity = plain()
    # one row alone keeps a component from being raised, and its σ is so large that raising it overflows
    spectra[NAMES[0]] = spectrum(NAMES[0], [1e305, 1.0, 1.0])
    g = np.full((24, 3), -1e-6)
    g[:, 0] = [1.0] + [-1e-3] * 23
    measured_ = replace(sensitivity, values={**sensitivity.values, NAMES[0]: g})
    plan = EditPlan(GradDirection(eta_enhance=8.0), "all", "none")
    with pytest.raises(PolicyError):
        plan.apply(spectra, without(measured_, [0]))
    found = pulls(plan, spectra, measured_)
    assert np.isnan(found.held).all()
    np.testing.assert_array_equal(found.told, found.own)


def test_a_component_that_moves_without_a_number_is_refused():
    spectra, sensitivity = plain()
    values = {name: g.copy() for name, g in sensitivity.values.items()}
    values[NAMES[0]][2, 1] = np.nan
    broken = replace(sensitivity, values=values)
    scaled = EditPlan(Scale(gamma=0.5), "all", "none")
    assert "not a number" in refusal(PolicyError, pulls, scaled, spectra, broken)
    assert np.isfinite(component_pulls(spectra, broken, NAMES[0], 0).told).all(), "what stays does not count"


def test_drawn_answers_missing_modules_and_components_that_do_not_exist_are_refused():
    spectra, sensitivity = plain()
    drawn = replace(sensitivity, provenance=replace(sensitivity.provenance, sampled=0))
    scaled = EditPlan(Scale(gamma=0.5), "all", "none")
    assert "drawn from the model" in refusal(PolicyError, pulls, scaled, spectra, drawn)
    part = sensitivity.of_modules(NAMES[:1])
    assert "have no sensitivities" in refusal(PolicyError, pulls, scaled, spectra, part)
    assert "none were given" in refusal(PolicyError, pulls, scaled, spectra, None)
    for name, component, gain in ((NAMES[0], 3, 0.0), ("elsewhere", 0, 0.0), (NAMES[0], 0, -1.0)):
        said = refusal(PolicyError, component_pulls, spectra, sensitivity, name, component, gain=gain)
        assert "cannot be given gain" in said
