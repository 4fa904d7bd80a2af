"""Several steps against the composition worked out by hand, and where they stop."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from surgery.adapter import in_scope
from surgery.edits import EditPlan, LayerGroups
from surgery.errors import Cancelled, PolicyError, RecipeError
from surgery.experiments import MOST_STEPS, TuningSetup, moved_to, origin, run_recipe, take_steps
from surgery.export import read_record
from surgery.policies import GradDirection, NaturalGradient, RandomIndex
from surgery.progress import Control
from surgery.recipes import dump_recipe, in_one_step, parse_recipe, read_recipe
from surgery.sensitivity import calibration_slice, measure_sensitivity
from tests.helpers.models import double, example_loss, singular_triplets, tiny_llama
from tests.helpers.refusals import refusal
from tests.surgery.experiments.conftest import assert_effect_by_hand, losses_by_hand, slice_of

CALIBRATION = slice_of(8, seed=1)
# the rows that are measured are tuned on here, so that small steps go on
GENTLE = EditPlan(NaturalGradient(eta=0.05, damping=3.0), energy="none")
ULP = 4 * np.finfo(float).eps


def measured_at(shop):
    def measure(sigma):
        return measure_sensitivity(shop.live, CALIBRATION, list(shop.spectra), sigma=sigma)

    return measure


def stepped(shop, plan=GENTLE, most=2, slice_=CALIBRATION, **options):
    setup = TuningSetup(shop.live, slice_, shop.sensitivity)
    return take_steps(setup, [plan] * most, measured_at(shop), **options)


def slopes_by_hand(shop, sigma_after, step=1e-5) -> dict[str, np.ndarray]:
    """Central differences of every example's loss along every σ in scope, in a model of dense weights at σ′."""
    model, found = double(tiny_llama()), {}
    triplets = singular_triplets(tiny_llama(), shop.folder)
    with torch.no_grad():
        for name, (U, sigma, V) in triplets.items():
            at = torch.as_tensor(sigma_after.get(name, sigma))
            model.get_submodule(name).weight += U @ torch.diag(at) @ V.T
        for name in in_scope(shop.spectra, "residual"):
            (U, _, V), weight, columns = triplets[name], model.get_submodule(name).weight, []
            for u, v in zip(U.T, V.T, strict=True):
                ends = []
                for shift in (step, -2 * step):
                    weight += shift * torch.outer(u, v)
                    ends.append([float(example_loss(model, example)) for example in CALIBRATION.examples])
                weight += step * torch.outer(u, v)
                columns.append((np.array(ends[0]) - ends[1]) / (2 * step))
            found[name] = np.stack(columns, axis=1)
    return found


def damped_step(sigma, g, eta, damping) -> np.ndarray:
    """σ − η(F + λI)⁻¹ḡ by a dense solve over all components, not below 0."""
    fisher = g.T @ g / len(g)
    eigenvalues = np.linalg.eigvalsh(fisher)
    damp = damping * np.sum(eigenvalues) / min(len(g), g.shape[1])
    return np.maximum(sigma - eta * np.linalg.solve(fisher + damp * np.eye(len(fisher)), g.mean(axis=0)), 0.0)


def test_two_steps_are_the_composition_of_two_dense_steps_with_slopes_by_finite_differences(shop):
    found = stepped(shop)
    assert len(found.taken) == 2
    names = list(found.end.edit.modules)
    splits = np.cumsum([shop.spectra[name].rank for name in names])[:-1]
    at: dict[str, np.ndarray] = {}
    for _ in range(2):
        slopes = slopes_by_hand(shop, at)
        sigma = np.concatenate([at.get(name, shop.spectra[name].sigma) for name in names])
        g = np.concatenate([slopes[name] for name in names], axis=1)
        after = damped_step(sigma, g, GENTLE.policy.eta, GENTLE.policy.damping)
        at = dict(zip(names, np.split(after, splits), strict=True))
    for name in names:
        moved = np.abs(at[name] - shop.spectra[name].sigma).max()
        assert moved > 1e-4
        # finite differences leave 1e-9 or so of each slope's size
        np.testing.assert_allclose(found.end.edit.sigma_after[name], at[name], rtol=0, atol=1e-6 * moved)


def test_the_second_step_reads_the_first_ones_end_and_not_the_start(shop):
    found, once = stepped(shop), GENTLE.apply(shop.spectra, shop.sensitivity)
    first, second = found.taken
    for name, module in once.modules.items():
        np.testing.assert_allclose(first.edit.sigma_after[name], module.sigma_after, rtol=ULP)
    straight = [2 * (m.sigma_after - m.sigma) for m in once.modules.values()]
    taken = [second.edit.sigma_after[n] - m.sigma for n, m in once.modules.items()]
    assert np.abs(np.concatenate(taken) - np.concatenate(straight)).max() > 1e-4


def test_every_step_says_what_it_does_by_hand_and_its_plan_redoes_it_to_the_bit(shop):
    found = stepped(shop)
    before = losses_by_hand(shop, {}, CALIBRATION.examples)
    for step in found.taken:
        assert_effect_by_hand(shop, step.total, step.edit, CALIBRATION.examples)
        now = losses_by_hand(shop, step.edit.sigma_after, CALIBRATION.examples)
        np.testing.assert_allclose(step.change.mean, (now - before).mean(), rtol=1e-7)
        before = now
        assert step.plan.energy == "none"
        assert not step.plan.needs_sensitivity
        again = step.plan.apply(shop.spectra, None)
        for name, sigma in step.edit.sigma_after.items():
            np.testing.assert_array_equal(again.sigma_after[name], sigma)


def test_steps_stop_before_the_one_that_does_not_lower_the_tuning_loss(shop):
    wild = replace(GENTLE, policy=NaturalGradient(eta=1.0, damping=0.05))
    found = stepped(shop, wild, most=MOST_STEPS)
    assert found.refused is not None
    assert len(found.taken) < MOST_STEPS
    assert found.refused.change.mean >= 0
    assert all(step.change.mean < 0 for step in found.taken)
    assert "it was not taken" in found.notes[-1]


def test_where_no_step_helps_the_adapter_stays_as_it_is(shop):
    # against the loss: a step of negative size is one along the gradient of its negative
    negative = replace(shop.sensitivity, values={name: -g for name, g in shop.sensitivity.values.items()})
    setup = TuningSetup(shop.live, CALIBRATION, negative)
    found = take_steps(setup, [GENTLE] * 3, measured_at(shop))
    assert found.taken == ()
    for name, module in found.end.edit.modules.items():
        np.testing.assert_array_equal(module.sigma_after, shop.spectra[name].sigma)


def test_an_energy_rule_holds_over_all_steps(shop):
    plan = EditPlan(GradDirection(eta_suppress=0.05, eta_enhance=0.05), scope="all", energy="l1")
    found = stepped(shop, plan, most=3)
    assert len(found.taken) >= 2
    for module in found.end.edit.modules.values():
        np.testing.assert_allclose(module.sigma_after.sum(), module.sigma.sum(), rtol=16 * ULP)


def test_steps_that_differ_are_each_taken_by_their_own_settings_and_scope(shop):
    larger = replace(GENTLE, policy=NaturalGradient(eta=0.1, damping=3.0))
    smaller = replace(GENTLE, scope="all", policy=NaturalGradient(eta=0.02, damping=6.0))
    setup = TuningSetup(shop.live, CALIBRATION, shop.sensitivity)
    found = take_steps(setup, [larger, smaller], measured_at(shop))
    first, second = found.taken
    once = larger.apply(shop.spectra, shop.sensitivity).sigma_after
    at = measured_at(shop)(first.edit.sigma_after)
    moved = moved_to(shop.spectra, first.edit)
    twice = smaller.apply(moved, at).sigma_after
    assert set(once) < set(twice) == set(shop.spectra)
    for name, spectrum in shop.spectra.items():
        np.testing.assert_allclose(first.edit.sigma_after[name], once.get(name, spectrum.sigma), rtol=ULP)
        np.testing.assert_allclose(second.edit.sigma_after[name], twice[name], rtol=ULP)
    told = origin([larger, smaller], found)
    assert told.startswith("2 of 2 steps: natural_gradient (eta 0.1, damping 3;")
    assert told.endswith("in all")


def test_a_later_step_in_a_smaller_scope_leaves_what_the_first_one_moved(shop):
    wide = replace(GENTLE, scope="all")
    setup = TuningSetup(shop.live, CALIBRATION, shop.sensitivity)
    first, second = take_steps(setup, [wide, GENTLE], measured_at(shop)).taken
    residual = set(in_scope(shop.spectra, "residual"))
    for name in set(shop.spectra) - residual:
        np.testing.assert_array_equal(second.edit.sigma_after[name], first.edit.sigma_after[name])
    assert any((second.edit.sigma_after[name] != first.edit.sigma_after[name]).any() for name in residual)


def test_one_step_among_others_that_cannot_be_taken_again_is_refused(shop):
    plans = [GENTLE, EditPlan(RandomIndex())]
    assert "random_index reads no" in refusal(PolicyError, take_steps, TuningSetup(None, None, None), plans, None)


@pytest.mark.parametrize(
    ("plan", "most", "words"),
    [
        (GENTLE, 0, "0 steps were asked for"),
        (GENTLE, MOST_STEPS + 1, "use 1 to"),
        (EditPlan(RandomIndex()), 2, "reads no sensitivities"),
        (replace(GENTLE, groups=LayerGroups({"o_proj": 0.5})), 2, "layer groups"),
        (replace(GENTLE, manual={"x": {0: 1.0}}), 2, "set by hand"),
    ],
)
def test_what_has_no_second_step_is_refused_before_the_model_runs(shop, plan, most, words):
    assert words in refusal(PolicyError, take_steps, TuningSetup(None, None, None), [plan] * most, None)


def test_progress_counts_the_tuning_rows_of_all_steps_and_a_cancel_stops_them(shop):
    seen = []
    stepped(shop, control=Control(progress=lambda done, total: seen.append((done, total))))
    assert seen[-1] == (3 * 8, 3 * 8)
    assert seen == sorted(seen)

    def stop():
        return True

    with pytest.raises(Cancelled):
        stepped(shop, control=Control(cancelled=stop))


def test_a_recipe_of_several_steps_exports_where_they_led_and_that_recipe_redoes_it(place, tmp_path):
    tuning = replace(place.calibration, start=12)
    recipe = place.recipe(
        policy=NaturalGradient(eta=0.02, damping=3.0), scope="all", energy="none", tuning=tuning, steps=3
    )
    assert parse_recipe(dump_recipe(recipe)) == recipe
    report = run_recipe(replace(recipe, evaluation=None), tmp_path / "out")
    written = read_recipe(tmp_path / "out" / "recipe.yaml")
    assert (written.steps, written.edit.energy) == (1, "none")
    assert "of 3 steps of natural_gradient (eta 0.02, damping 3;" in written.origin
    assert written.origin in report.notes
    assert written.origin in (tmp_path / "out" / "README.md").read_text()
    assert set(read_record(tmp_path / "out").rows) == {"calibration", "tuning"}
    again = run_recipe(written, tmp_path / "again")
    for name, sigma in report.edit.sigma_after.items():
        np.testing.assert_array_equal(again.edit.sigma_after[name], sigma)
    for file in (tmp_path / "out").iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_recipe_of_steps_that_differ_exports_where_they_led(place, tmp_path):
    plan = replace(GENTLE, scope="all", policy=NaturalGradient(eta=0.02, damping=3.0))
    smaller = replace(plan, policy=NaturalGradient(eta=0.01, damping=3.0))
    recipe = replace(
        place.recipe(tuning=replace(place.calibration, start=12)), edit=plan, then=(smaller,), evaluation=None
    )
    assert parse_recipe(dump_recipe(recipe)) == recipe
    report = run_recipe(recipe, tmp_path / "out")
    written = read_recipe(tmp_path / "out" / "recipe.yaml")
    assert (written.edits, written.then) == ((written.edit,), ())
    assert "steps: natural_gradient (eta 0.02, " in written.origin
    assert ", then natural_gradient (eta 0.01, " in written.origin
    with place.attach() as live:
        calibration = calibration_slice(live, place.calibration)
        setup = TuningSetup(
            live,
            calibration_slice(live, recipe.tuning),
            measure_sensitivity(live, calibration, list(live.spectra), batch_size=4),
        )

        def measure(sigma):
            return measure_sensitivity(live, calibration, list(live.spectra), batch_size=4, sigma=sigma)

        expected = take_steps(setup, [plan, smaller], measure).end.edit
    for name, sigma in report.edit.sigma_after.items():
        np.testing.assert_array_equal(sigma, expected.sigma_after[name])


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ("more", "then is no list"),
        ([3], "then[0]"),
        ([{"scope": "all", "colour": "red"}], "colour"),
    ],
)
def test_a_list_of_further_steps_is_checked_as_the_first_one_is(place, then, words):
    record = yaml.safe_load(dump_recipe(place.recipe(tuning=replace(place.calibration, start=12))))
    assert words in refusal(RecipeError, parse_recipe, yaml.safe_dump({**record, "then": then}))


def test_steps_of_one_edit_and_a_list_of_others_are_not_mixed(place):
    both = place.recipe(tuning=replace(place.calibration, start=12), steps=2, then=(GENTLE,))
    assert "keep one of steps and then" in refusal(RecipeError, parse_recipe, dump_recipe(both))
    alone = place.recipe(then=(GENTLE,))
    assert "no section 'tuning'" in refusal(RecipeError, parse_recipe, dump_recipe(alone))
    assert "up to 2 steps" in refusal(RecipeError, in_one_step, alone)


def test_a_recipe_of_several_steps_needs_tuning_rows_and_is_no_single_edit(place):
    recipe = place.recipe(steps=2)
    assert "no section 'tuning'" in refusal(RecipeError, parse_recipe, dump_recipe(recipe))
    assert "surgery run" in refusal(RecipeError, in_one_step, recipe)
    assert in_one_step(place.recipe()) == place.recipe()
