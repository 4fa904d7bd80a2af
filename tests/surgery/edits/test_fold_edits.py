"""The edit of a fold is the edit of a measurement of its training examples alone."""

from dataclasses import replace

import numpy as np
import pytest

from surgery.edits import EditPlan, edit_as_fold, fold_edits, with_strength
from surgery.errors import PolicyError
from surgery.policies import POLICIES, AbsSelect, NaturalGradient, RandomIndex, Rank, make_policy
from tests.helpers.policies import measured, spectrum, with_protected

SIGMA = {
    "model.layers.0.self_attn.o_proj": [4.0, 3.0, 2.0, 1.0, 0.5],
    "model.layers.0.mlp.down_proj": [3.0, 0.1],
    "model.layers.1.self_attn.o_proj": [5.0, 2.0, 1.0, 1.0, 0.0],
}
SPECTRA = {name: spectrum(name, sigma) for name, sigma in SIGMA.items()}
RNG = np.random.default_rng(8)
VALUES = {name: RNG.normal(size=(18, len(sigma))) for name, sigma in SIGMA.items()}
SENSITIVITY = with_protected(measured(VALUES))
READING = [name for name, kind in POLICIES.items() if EditPlan(kind()).policy.needs_gradient]


def plans(policy):
    yield EditPlan(policy)
    yield EditPlan(
        policy, scope="o_proj", energy="none", sigma_min=0.75, strength=1.4,
        manual={"model.layers.0.self_attn.o_proj": {1: 0.0, 4: 3.0}},
    )  # fmt: skip


POOLING = [Rank(cut="para", share=0.7, by=by) for by in ("gradient", "sensitivity")]


@pytest.mark.parametrize("policy", [*map(make_policy, READING), *POOLING], ids=str)
def test_the_edit_of_a_fold_is_that_of_its_training_examples(policy):
    for plan in plans(policy):
        edits = fold_edits(plan, SPECTRA, SENSITIVITY)
        assert len(edits.after) == len(SENSITIVITY.folds.held)
        for fold, train in enumerate(SENSITIVITY.folds.train):
            alone = plan.apply(SPECTRA, with_protected(measured({name: g[train] for name, g in VALUES.items()})))
            assert tuple(alone.modules) == edits.names
            expected = np.concatenate([module.sigma_after for module in alone.modules.values()])
            assert edits.after[fold] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("damping", [0.05, 0.7, 10.0])
def test_a_natural_step_with_examples_held_out_is_solved_anew_whatever_the_damping(damping):
    plan = EditPlan(NaturalGradient(eta=0.02, damping=damping), energy="none")
    edits = fold_edits(plan, SPECTRA, SENSITIVITY)
    g = np.concatenate([VALUES[name] for name in edits.names], axis=1)
    for fold, train in enumerate(SENSITIVITY.folds.train):
        fisher = g[train].T @ g[train] / train.sum()
        damp = damping * np.trace(fisher) / min(len(fisher), train.sum())
        step = np.linalg.solve(fisher + damp * np.eye(len(fisher)), g[train].mean(axis=0))
        live = edits.sigma > 0
        expected = np.maximum(edits.sigma - 0.02 * step, 0.0)
        assert edits.after[fold][live] == pytest.approx(expected[live], rel=1e-9)


def test_a_plan_that_reads_no_sensitivities_has_one_edit_for_all_examples():
    plan = EditPlan(RandomIndex(), strength=0.5)
    edits = fold_edits(plan, SPECTRA, SENSITIVITY)
    assert not edits.folds.fitted
    whole = plan.apply(SPECTRA, None)
    np.testing.assert_array_equal(edits.after[0], np.concatenate([m.sigma_after for m in whole.modules.values()]))
    np.testing.assert_array_equal(edits.after, edit_as_fold(whole, SENSITIVITY).after)


def test_the_strength_of_every_fold_is_that_of_its_edit():
    whole = EditPlan(AbsSelect()).apply(SPECTRA, SENSITIVITY)
    for strength in (0.0, 0.3, 1.0, 1.5):
        found = edit_as_fold(whole, SENSITIVITY).at(strength)
        expected = with_strength(whole, strength)
        after = np.concatenate([m.sigma_after for m in expected.modules.values()])
        np.testing.assert_array_equal(found.after[0], after)
        assert found.after.shape == (1, after.size)


def test_modules_begin_where_they_are_said_to():
    edits = fold_edits(EditPlan(AbsSelect()), SPECTRA, SENSITIVITY)
    for name, start in zip(edits.names, edits.starts, strict=True):
        np.testing.assert_array_equal(edits.sigma[start : start + len(SIGMA[name])], SIGMA[name])


def test_examples_that_are_too_few_give_no_edits_of_folds():
    few = SENSITIVITY.head(7)
    assert fold_edits(EditPlan(AbsSelect()), SPECTRA, few) is None
    assert fold_edits(EditPlan(RandomIndex()), SPECTRA, few) is not None


def test_a_plan_that_cannot_be_applied_is_refused():
    with pytest.raises(PolicyError, match="have no sensitivities"):
        fold_edits(EditPlan(AbsSelect()), SPECTRA, SENSITIVITY.of_modules(list(SIGMA)[:1]))
    with pytest.raises(PolicyError, match="matches no module"):
        fold_edits(replace(EditPlan(AbsSelect()), scope="nothing"), SPECTRA, SENSITIVITY)
