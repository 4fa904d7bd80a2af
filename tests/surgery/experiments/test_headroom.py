"""σ trained by Adam: against torch's own Adam, and what it promises of losses, epochs and seeds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from surgery.errors import Cancelled, PolicyError
from surgery.experiments import Training, TuningSetup, headroom
from surgery.progress import Control
from surgery.sensitivity import measure_sensitivity
from tests.helpers.refusals import refusal
from tests.surgery.experiments.conftest import assert_effect_by_hand, losses_by_hand, slice_of

CALIBRATION = slice_of(8, seed=1)
SHORT = Training(epochs=3, learning_rate=0.05, batch_size=4)


def trained(shop, slice_=CALIBRATION, training=SHORT, **options):
    setup = TuningSetup(shop.live, slice_, None)
    return headroom(setup, CALIBRATION, scope="all", training=training, **options)


def test_training_lowers_the_calibration_loss_and_says_by_how_much(shop):
    found = trained(shop)
    assert found.epoch > 0
    assert_effect_by_hand(shop, found.change, found.edit, CALIBRATION.examples)
    before, after = (losses_by_hand(shop, at, CALIBRATION.examples) for at in ({}, found.edit.sigma_after))
    assert after.mean() < before.mean()
    np.testing.assert_allclose(found.tuning[0], before.mean(), rtol=1e-9)
    np.testing.assert_allclose(found.tuning[found.epoch], after.mean(), rtol=1e-9)
    assert min(found.tuning) == found.tuning[found.epoch]


def test_whole_batches_are_steps_of_torchs_adam(shop):
    training = Training(epochs=3, learning_rate=0.05, batch_size=8)
    found = trained(shop, training=training)
    assert found.epoch == 3
    sigma = {n: torch.tensor(s.sigma, requires_grad=True) for n, s in shop.spectra.items()}
    groups = [{"params": [each], "lr": 0.05 * float(each.detach().mean())} for each in sigma.values()]
    adam = torch.optim.Adam(groups)
    for _ in range(3):
        at = {name: each.detach().numpy().copy() for name, each in sigma.items()}
        g = measure_sensitivity(shop.live, CALIBRATION, list(sigma), sigma=at)
        for name, each in sigma.items():
            each.grad = torch.tensor(g.values[name].mean(axis=0))
        adam.step()
        with torch.no_grad():
            for each in sigma.values():
                each.clamp_(min=0.0)
    for name, each in sigma.items():
        np.testing.assert_allclose(found.edit.sigma_after[name], each.detach().numpy(), rtol=1e-9, atol=1e-12)


def test_it_stops_when_the_tuning_rows_gain_no_more_and_goes_back_to_their_best_epoch(shop):
    training = Training(epochs=40, patience=2, learning_rate=0.3, batch_size=4)
    found = trained(shop, shop.slice_, training)
    assert len(found.tuning) - 1 == found.epoch + 2 < 40
    assert found.tuning[found.epoch] == min(found.tuning)
    after = losses_by_hand(shop, found.edit.sigma_after, shop.slice_.examples)
    np.testing.assert_allclose(after.mean(), found.tuning[found.epoch], rtol=1e-9)


def test_the_same_seed_gives_the_same_sigma_and_another_one_another(shop):
    first, second = trained(shop), trained(shop)
    other = trained(shop, training=replace(SHORT, seed=1))
    for name, sigma in first.edit.sigma_after.items():
        np.testing.assert_array_equal(second.edit.sigma_after[name], sigma)
    assert any((other.edit.sigma_after[n] != sigma).any() for n, sigma in first.edit.sigma_after.items())


def test_its_plan_makes_its_edit_without_sensitivities(shop):
    found = trained(shop)
    again = found.plan.apply(shop.spectra, None)
    for name, sigma in found.edit.sigma_after.items():
        np.testing.assert_array_equal(again.sigma_after[name], sigma)


def test_progress_counts_up_to_all_epochs_and_a_cancel_stops_it(shop):
    seen = []
    trained(shop, control=Control(progress=lambda done, total: seen.append((done, total))))
    assert seen == sorted(seen)
    assert seen[-1] == (8 + 3 * 16, 8 + 3 * 16)
    with pytest.raises(Cancelled):
        trained(shop, control=Control(cancelled=lambda: True))


@pytest.mark.parametrize(
    "wrong", [{"epochs": 0}, {"patience": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"seed": -1}]
)
def test_training_that_cannot_be_is_refused(wrong):
    assert "cannot be trained" in refusal(PolicyError, Training, **wrong)
