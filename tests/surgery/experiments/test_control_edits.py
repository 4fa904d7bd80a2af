"""Controls beside an edit: random ones, and its rescaling."""

import numpy as np
import pytest

from surgery.adapter import open_adapter
from surgery.edits import EditPlan, make_edit
from surgery.experiments import (
    EDIT,
    SAME_NORM,
    random_controls,
    scale_control,
    sigma_digest,
    with_controls,
)
from surgery.policies import AbsSelect, RandomIndex, Scale
from surgery.sensitivity import calibrate
from surgery.spectra import decompose
from tests.helpers.models import save_adapter, tiny_llama


def test_random_controls_are_seeded_named_and_all_different(place):
    spectra = decompose(open_adapter(place.adapter))
    controls, again = random_controls(spectra, 4), random_controls(spectra, 4)
    assert list(controls) == ["random 0", "random 1", "random 2", "random 3"]
    drawn = set()
    for name, control in controls.items():
        assert len(control.modules) == 6, "the residual writers of three layers by default"
        for module, edit in control.modules.items():
            np.testing.assert_array_equal(again[name].modules[module].gains, edit.gains)
        drawn.add(np.concatenate([edit.gains for edit in control.modules.values()]).tobytes())
    assert len(drawn) == 4


def test_random_controls_move_as_much_as_the_selection_they_stand_beside(place):
    policy = AbsSelect(core_frac=0.5, noise_frac=0.25, amp=1.5, sup=0.5, mid=0.9)
    assert RandomIndex().amp != policy.amp, "the default gates would not show it"
    with place.attach() as live:
        measured = calibrate(live, place.calibration)
        edit = make_edit(live.spectra, policy, sensitivity=measured, scope="all", energy="none")
        controls = random_controls(live.spectra, 2, like=policy, scope="all", energy="none")
    for control in controls.values():
        for name, module in control.modules.items():
            np.testing.assert_allclose(np.sort(module.gains), np.sort(edit.modules[name].gains))


@pytest.mark.parametrize("rank", [1, 4])
def test_the_scale_control_has_the_edits_norms_and_the_adapters_shape(tmp_path, rank):
    spectra = decompose(open_adapter(save_adapter(tiny_llama(), tmp_path / "adapter", r=rank)))
    manual = {next(iter(spectra)): dict.fromkeys(range(rank), 0.0)}
    edit = make_edit(spectra, RandomIndex(amp=2.0), scope="residual", energy="none")
    silenced = make_edit(spectra, Scale(1.0), scope="all", energy="none", manual=manual)
    for original in (edit, silenced):
        control = scale_control(original)
        assert list(control.modules) == list(original.modules)
        for name, module in control.modules.items():
            edited = original.modules[name]
            np.testing.assert_array_equal(module.sigma, edited.sigma)
            assert len(set(module.gains)) == 1
            np.testing.assert_array_equal(module.sigma_after, module.gains * module.sigma)
            expected = sum(value * value for value in edited.sigma_after.tolist()) ** 0.5
            assert sum(value * value for value in module.sigma_after.tolist()) ** 0.5 == pytest.approx(expected)
            if np.array_equal(edited.sigma, edited.sigma_after):
                assert set(module.gains) == {1.0}, "what the edit leaves alone stays so to the bit"
    assert not any(scale_control(silenced).modules[name].sigma_after.any() for name in manual)


def test_the_edit_comes_first_then_its_rescaling_then_random_controls(place):
    spectra = decompose(open_adapter(place.adapter))
    plan = EditPlan(AbsSelect(amp=1.7, sup=0.4), scope="o_proj", energy="none", sigma_min=0.01)
    edit = make_edit(spectra, RandomIndex(seed=9), scope="o_proj", energy="none")
    variants = with_controls(spectra, plan, edit, random=3)
    assert list(variants) == [EDIT, SAME_NORM, "random 0", "random 1", "random 2"]
    assert variants[EDIT] is edit
    assert sigma_digest(variants[SAME_NORM]) == sigma_digest(scale_control(edit))
    expected = random_controls(spectra, 3, like=plan.policy, scope="o_proj", energy="none", sigma_min=0.01)
    assert [sigma_digest(variants[name]) for name in expected] == [
        sigma_digest(each) for each in expected.values()
    ]
    assert list(with_controls(spectra, plan, edit, random=1, scale=False)) == [EDIT, "random 0"]
    assert list(with_controls(spectra, plan, edit, random=0, scale=False)) == [EDIT]
