"""The dose curve against losses by hand at every strength, with a scale control of the same size at each."""

from dataclasses import replace

import numpy as np
import pytest

from surgery.edits import EditPlan
from surgery.errors import Cancelled, PolicyError
from surgery.evaluation import SAME_ENERGY, SAME_NORM
from surgery.experiments import DOSES, TuningSetup, dose_curve
from surgery.policies import Identity, Scale
from surgery.progress import Control
from tests.helpers.refusals import refusal
from tests.surgery.experiments.conftest import PLAN, assert_effect_by_hand, stop_after, without_model


def curve(shop, plan=PLAN, doses=(0.0, 0.5, 1.5), **options):
    return dose_curve(TuningSetup(shop.live, shop.slice_, shop.sensitivity), plan, doses, **options)


def test_every_dose_is_measured_as_by_hand_and_zero_is_no_change(shop):
    found = curve(shop)
    assert [point.dose for point in found.points] == [0.0, 0.5, 1.5]
    assert [metric.name for metric in found.metrics] == ["loss", "exact"]
    assert found.examples == len(shop.slice_.examples)
    zero = found.points[0]
    for effects in (zero.edit, zero.scale):
        assert all((effect.mean, effect.low, effect.high) == (0, 0, 0) for effect in effects.values())
    for point in found.points[1:]:
        edit = replace(PLAN, strength=point.dose).apply(shop.spectra, shop.sensitivity)
        assert_effect_by_hand(shop, point.edit["loss"], edit, shop.slice_.examples)


def test_the_scale_at_a_dose_has_the_size_that_the_edit_has_there(shop):
    measured = shop.sensitivity
    for known, control in ((measured, SAME_ENERGY), (replace(measured, inputs=None), SAME_NORM)):
        setup = TuningSetup(shop.live, shop.slice_, known)
        found = dose_curve(setup, PLAN, (1.5,))
        assert found.control == control
        edit = replace(PLAN, strength=1.5).apply(shop.spectra, known)
        scaled = {}
        for name, module in edit.modules.items():
            q = measured.inputs.q(name) if control == SAME_ENERGY else np.ones(module.sigma.size)
            size, before = (np.sqrt((v**2 * q).sum()) for v in (module.sigma_after, module.sigma))
            scaled[name] = replace(module, sigma_after=module.sigma * size / before)
        assert_effect_by_hand(
            shop, found.points[0].scale["loss"], replace(edit, modules=scaled), setup.slice_.examples
        )


def test_a_plain_scale_is_its_own_control_at_every_dose(shop):
    found = curve(shop, EditPlan(Scale(1.4), energy="none"))
    for point in found.points:
        assert point.edit["loss"].mean == pytest.approx(point.scale["loss"].mean, rel=1e-9)


def test_the_own_strength_of_a_plan_plays_no_part_and_the_grid_is_named_in_advance(shop):
    assert DOSES == (0, 0.25, 0.5, 0.75, 1, 1.25, 1.5)
    assert curve(shop, replace(PLAN, strength=0.3), (1.0,)) == curve(shop, PLAN, (1.0, 1.0))


def test_an_edit_of_nothing_is_flat(shop):
    found = curve(shop, EditPlan(Identity()))
    assert all(effect.mean == 0 for point in found.points for effect in (point.edit["loss"], point.scale["loss"]))


def test_what_is_refused_is_refused_before_the_model_runs_and_a_curve_can_be_cancelled(shop):
    refusal(PolicyError, curve, without_model(shop), PLAN, (0.5, 7.0))
    with pytest.raises(Cancelled):
        curve(shop, control=Control(cancelled=stop_after(3)))
