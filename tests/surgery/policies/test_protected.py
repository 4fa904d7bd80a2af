"""The step that spares other slices: against dense systems, its optimality conditions, and natural_gradient."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.edits import make_edit
from surgery.errors import PolicyError
from surgery.policies import NaturalGradient, Protected, multipliers
from surgery.sensitivity import folds_of
from tests.helpers.policies import measured, spectrum

seeds = st.integers(0, 10_000)


@dataclass(frozen=True)
class Beside:
    """A protected slice in plain numbers, g by component and example."""

    g: np.ndarray
    label_free: bool = False
    tokens: int = 3


def _slices(seed, components=9, sizes=(7, 5), pull=0.5):
    """Per-example sensitivities of a target and of protected slices, with means that are not zero."""
    rng = np.random.default_rng(seed)
    target = rng.standard_normal((components, sizes[0])) + pull * rng.standard_normal((components, 1))
    beside = [
        Beside(rng.standard_normal((components, n)) + pull * rng.standard_normal((components, 1)))
        for n in sizes[1:]
    ]
    return target, beside


def _rows(target, beside):
    found = measured({"m": target.T})
    kept = []
    for slice_ in beside:
        other = measured({"m": slice_.g.T})
        provenance = replace(other.provenance, sampled=0 if slice_.label_free else None)
        tokens = np.full(slice_.g.shape[1], slice_.tokens)
        kept.append(replace(other, provenance=provenance, answer_tokens=tokens))
    return replace(found, protected=tuple(kept)).moments.of_scope(["m"])


def _fisher(g, damping):
    fisher = g @ g.T / g.shape[1]
    eigenvalues = np.linalg.eigvalsh(fisher)
    return fisher + damping * eigenvalues[eigenvalues > 1e-9].mean() * np.eye(len(fisher))


def _dense(target, beside, mu, damping):
    """H of the whole model and the means, the target's first."""
    h = _fisher(target, damping) + mu * sum(_fisher(slice_.g, damping) for slice_ in beside)
    return h, target.mean(axis=1), np.stack([slice_.g.mean(axis=1) for slice_ in beside], axis=1)


def _step(policy, target, beside):
    """δ, from gains of components so large that none is clamped."""
    sigma = np.full(len(target), 1e6)
    return (policy.gains_in_scope(sigma, _rows(target, beside))[0] - 1) * sigma


def _changes(step, beside):
    found = []
    for slice_ in beside:
        along = step @ slice_.g
        found.append((0.0 if slice_.label_free else along.mean()) + slice_.tokens / 2 * (along**2).mean())
    return np.array(found)


@given(seeds, st.floats(0.05, 2), st.floats(0.05, 5))
def test_without_weight_the_step_is_that_of_the_natural_gradient(seed, damping, eta):
    target, beside = _slices(seed)
    sigma = np.full(len(target), 1e3)
    eta = min(eta, 1.0)
    found = Protected(eta=eta, damping=damping, mu=0.0).gains_in_scope(sigma, _rows(target, beside))[0]
    natural = NaturalGradient(eta=eta, damping=damping).gains_in_scope(sigma, _rows(target, beside))[0]
    assert found - 1 == pytest.approx(natural - 1, rel=1e-9, abs=1e-15)


@given(seeds, st.sampled_from([0.1, 1.0, 7.0]), st.sampled_from([(7, 5), (12, 3, 4), (4, 20)]))
def test_the_step_is_the_least_of_the_convex_model(seed, mu, sizes):
    """Its subgradient holds zero: Hδ + ḡ + Σνḡ_P = 0 with ν at a bound where ḡ_P·δ is not zero."""
    target, beside = _slices(seed, sizes=sizes)
    step = _step(Protected(eta=1.0, damping=0.3, mu=mu), target, beside)
    h, mean, others = _dense(target, beside, mu, 0.3)
    nu, *_ = np.linalg.lstsq(others, -(h @ step + mean), rcond=None)
    assert others @ nu == pytest.approx(-(h @ step + mean), abs=1e-6)
    size = np.linalg.norm(others, axis=0) * np.linalg.norm(step)
    for weight, slope in zip(nu, others.T @ step / size, strict=True):
        assert -1e-5 <= weight <= mu * (1 + 1e-5)
        assert slope < 1e-6 or weight == pytest.approx(mu, rel=1e-4)
        assert slope > -1e-6 or weight == pytest.approx(0.0, abs=1e-4)


@given(seeds, st.integers(1, 4), st.sampled_from([0.2, 1.0, np.inf]))
def test_the_multipliers_meet_the_conditions_of_karush_kuhn_and_tucker(seed, count, most):
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((6, count)) * 10 ** rng.uniform(-6, 3, count)
    if seed % 3 == 0 and count > 1:
        vectors[:, 1] = vectors[:, 0]  # the same slice twice
    gram, slopes = vectors.T @ vectors, vectors.T @ rng.standard_normal(6)
    nu = multipliers(gram, slopes, most)
    unit = np.sqrt(np.diagonal(gram))
    gradient = (gram @ nu + slopes) / unit
    assert (nu >= 0).all()
    assert (nu <= most).all()
    for weight, slope in zip(nu, gradient, strict=True):
        assert slope < 1e-7 or weight == 0
        assert slope > -1e-7 or weight == pytest.approx(most)


@given(seeds, st.sampled_from([0.0, 0.3, 2.0]))
def test_a_slice_of_the_models_own_answers_has_no_slope_and_counts_by_its_curvature(seed, mu):
    target, (beside,) = _slices(seed)
    step = _step(Protected(eta=1.0, damping=0.3, mu=mu), target, [replace(beside, label_free=True)])
    h, mean, _ = _dense(target, [beside], mu, 0.3)
    assert step == pytest.approx(-np.linalg.solve(h, mean), rel=1e-6, abs=1e-6)


@settings(max_examples=40)
@given(seeds, st.sampled_from([(7, 5), (12, 3, 4)]), st.booleans())
def test_the_limit_holds_and_a_tighter_one_never_costs_a_protected_slice_more(seed, sizes, free):
    target, beside = _slices(seed, sizes=sizes)
    beside = [replace(slice_, label_free=free) for slice_ in beside]
    before = np.inf
    for limit in (0.2, 0.02, 0.002, 0.0):
        step = _step(Protected(eta=0.7, mu=0.5, limited=True, limit=limit), target, beside)
        # gains are kept beside 1, so a step of components near 1e6 has their rounding
        assert _changes(step, beside).max() <= limit + 1e-8
        size = np.sum(np.maximum(_changes(step, beside), 0.0))
        assert size <= before * len(beside) + 1e-8
        before = max(size, limit)


@given(seeds)
def test_a_limit_that_holds_anyway_changes_nothing(seed):
    target, beside = _slices(seed)
    free = Protected(eta=0.01, mu=1.0)
    if _changes(_step(free, target, beside), beside).max() < 0.19:
        bound = replace(free, limited=True, limit=0.2)
        assert _step(bound, target, beside).tolist() == _step(free, target, beside).tolist()


@given(seeds)
def test_more_weight_lowers_what_the_protected_slices_pay(seed):
    """The penalty method: what the weight multiplies never grows with it."""
    target, beside = _slices(seed, sizes=(9, 5, 4))
    paid = []
    for mu in (0.0, 0.1, 1.0, 10.0):
        step = _step(Protected(eta=1.0, damping=0.3, mu=mu), target, beside)
        paid.append(
            sum(
                max(0.0, step @ slice_.g.mean(axis=1)) + step @ _fisher(slice_.g, 0.3) @ step / 2
                for slice_ in beside
            )
        )
    for more, less in pairwise(paid):
        assert less <= more * (1 + 1e-6) + 1e-9


def test_the_step_changes_with_the_weight_without_a_leap():
    target, beside = _slices(3)
    none, hair = (_step(Protected(eta=1.0, mu=mu), target, beside) for mu in (0.0, 1e-7))
    assert hair == pytest.approx(none, rel=1e-4)


def test_the_order_of_the_examples_moves_no_bit():
    target, (beside,) = _slices(5)
    sigma, policy = np.arange(9.0, 0.0, -1.0), Protected()
    turned = policy.gains_in_scope(sigma, _rows(target[:, ::-1], [replace(beside, g=beside.g[:, ::-1])]))
    assert turned.tolist() == policy.gains_in_scope(sigma, _rows(target, [beside])).tolist()


def test_a_fold_is_the_step_of_its_training_examples_of_both_slices():
    target, (beside,) = _slices(11, sizes=(24, 17))
    sigma, policy = np.full(9, 1e3), Protected(eta=1.0, mu=2.0)
    found = policy.gains_in_scope(sigma, _rows(target, [beside]), folds_of(24))
    for row, own, other in zip(found, folds_of(24).train, folds_of(17).train, strict=True):
        alone = _rows(target[:, own], [replace(beside, g=beside.g[:, other])])
        assert row - 1 == pytest.approx(policy.gains_in_scope(sigma, alone)[0] - 1, rel=1e-9)


def test_a_slice_too_small_for_folds_trains_every_one_of_them():
    target, (beside,) = _slices(11, sizes=(24, 5))
    sigma, policy = np.full(9, 1e3), Protected(eta=1.0, mu=2.0)
    found = policy.gains_in_scope(sigma, _rows(target, [beside]), folds_of(24))
    for row, own in zip(found, folds_of(24).train, strict=True):
        alone = _rows(target[:, own], [beside])
        assert row - 1 == pytest.approx(policy.gains_in_scope(sigma, alone)[0] - 1, rel=1e-9)


def test_make_edit_takes_the_slices_kept_beside_the_target_by_module():
    rng = np.random.default_rng(7)
    ranks = {"model.layers.0.o_proj": 4, "model.layers.1.o_proj": 3}
    spectra = {name: spectrum(name, 50 + rng.random(rank)) for name, rank in ranks.items()}
    target = {name: rng.standard_normal((6, rank)) for name, rank in ranks.items()}
    beside = {name: rng.standard_normal((5, ranks[name])) for name in reversed(ranks)}
    sensitivity = replace(measured(target), protected=(measured(beside),))
    edit = make_edit(spectra, Protected(), sensitivity=sensitivity)
    gains = Protected().gains_in_scope(
        np.concatenate([spectra[name].sigma for name in ranks]),
        _rows(
            np.concatenate(list(target.values()), axis=1).T,
            [Beside(np.concatenate([beside[name] for name in ranks], axis=1).T)],
        ),
    )[0]
    assert np.concatenate([edit.modules[name].gains for name in ranks]) == pytest.approx(gains, rel=1e-14)


def test_without_a_protected_slice_the_policy_is_refused_with_the_way_to_one():
    spectra = {"model.layers.0.o_proj": spectrum("model.layers.0.o_proj", [2.0, 1.0])}
    g = measured({"model.layers.0.o_proj": [[1.0, -1.0], [0.5, 2.0]]})
    with pytest.raises(PolicyError, match="no slice to protect") as caught:
        make_edit(spectra, Protected(), sensitivity=g)
    assert "surgery calibrate" in caught.value.remedy
    with pytest.raises(PolicyError, match="answer tokens"):
        make_edit(spectra, Protected(limited=True), sensitivity=replace(g, protected=(g,)))
    with pytest.raises(PolicyError, match="whole scope"):
        Protected().gains(None)


def test_a_protected_slice_of_another_adapter_is_refused():
    spectra = {"model.layers.0.o_proj": spectrum("model.layers.0.o_proj", [2.0, 1.0])}
    g = measured({"model.layers.0.o_proj": [[1.0, -1.0], [0.5, 2.0]]})
    for other in (measured({"model.layers.0.o_proj": [[1.0]]}), measured({"elsewhere": [[1.0, 2.0]]})):
        with pytest.raises(PolicyError, match=r"no sensitivities|sensitivities for"):
            make_edit(spectra, Protected(), sensitivity=replace(g, protected=(other,)))


def test_answers_of_the_models_own_are_no_target():
    spectra = {"model.layers.0.o_proj": spectrum("model.layers.0.o_proj", [2.0, 1.0])}
    g = measured({"model.layers.0.o_proj": [[1.0, -1.0], [0.5, 2.0]]})
    drawn = replace(g, provenance=replace(g.provenance, sampled=0))
    with pytest.raises(PolicyError, match="drawn from the model") as caught:
        make_edit(spectra, NaturalGradient(), sensitivity=drawn)
    assert "protected" in caught.value.remedy
