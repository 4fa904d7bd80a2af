"""The cut of rank, against counts written out in plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.policies import CUTS, FORMER_NAMES, SCORES, Rank, make_policy
from tests.helpers.policies import evidence, gains_of, spread, stacked, tied

shares = st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.95, 0.99, 1.0])


def least_for_share(weights, share):
    """The smallest set of largest weights that holds a share of their sum, and all that equals its smallest."""
    falling = sorted(weights, reverse=True)
    if share == 0 or falling[0] == 0:
        return [0.0] * len(weights)
    total, held, last = math.fsum(falling), 0.0, math.inf
    for weight in falling:
        if weight == 0 or (held >= share * total * (1 - 1e-12) and share < 1):
            break
        held, last = held + weight, weight
    return [1.0 if weight >= last else 0.0 for weight in weights]


@given(tied, st.integers(0, 30))
def test_a_fixed_rank_keeps_the_leading_components_by_sigma_or_by_sensitivity(values, keep):
    r = len(values)
    leading = sorted(range(r), key=lambda k: (-values[k], k))[:keep]
    expected = [1.0 if k in leading else 0.0 for k in range(r)]
    assert gains_of(Rank(keep=keep, by="sensitivity"), evidence(values)).tolist() == expected
    assert gains_of(Rank(keep=keep), evidence([1.0] * r, sigma=values)).tolist() == expected


def test_a_cut_by_sigma_ignores_the_sensitivities_and_each_other_score_reads_its_own():
    module = evidence(sigma=[4.0, 3.0, 2.0, 1.0], g=[0.1, -0.2, 0.0, 3.0], q=[1.0, 0.1, 9.0, 4.0])
    kept = {by: gains_of(Rank(keep=1, by=by), module).tolist() for by in SCORES}
    assert kept == {
        "sigma": [1, 0, 0, 0],
        "functional": [0, 0, 1, 0],  # σ√q: 4, 0.95, 6, 2
        "gradient": [0, 0, 0, 1],  # |σg|: 0.4, 0.6, 0, 3
        "sensitivity": [0, 0, 0, 1],
    }


@given(tied, shares)
def test_a_share_keeps_the_fewest_components_that_hold_it_and_all_that_are_equal_to_the_last(values, share):
    squares = [value**2 for value in values]
    by_sigma = gains_of(Rank(cut="energy", share=share), evidence([1.0] * len(values), sigma=values))
    assert by_sigma.tolist() == least_for_share(squares, share)
    # sensitivities are added up as they are
    by_g = gains_of(Rank(cut="energy", share=share, by="sensitivity"), evidence(values))
    assert by_g.tolist() == least_for_share(values, share)


@given(st.lists(tied, min_size=1, max_size=5), shares)
def test_one_threshold_for_a_scope_is_a_share_of_its_modules_end_to_end(modules, share):
    whole = [value for values in modules for value in values]
    pooled = evidence([1.0] * len(whole), sigma=whole)
    assert gains_of(Rank(cut="para", share=share), pooled).tolist() == least_for_share(
        [value**2 for value in whole], share
    )


@given(spread)
def test_a_share_of_all_keeps_whatever_is_positive(values):
    for cut in ("energy", "para"):
        assert gains_of(Rank(cut=cut, share=1.0), evidence([1.0] * len(values), sigma=values)).all()


@given(tied)
def test_the_effective_rank_is_the_entropy_rounded_up(values):
    total = sum(values)
    entropy = -sum(v / total * math.log(v / total) for v in values if v > 0) if total else 0.0
    wanted = math.ceil(math.exp(entropy) * (1 - 1e-12)) if total else 0
    assert gains_of(Rank(cut="effective"), evidence([1.0] * len(values), sigma=values)).sum() == wanted


@pytest.mark.parametrize(
    ("sigma", "kept"),
    [
        ([10, 9, 1, 1, 1], 2),
        ([10, 1, 1, 1], 1),
        ([4, 3, 2, 1], 4),  # straight: no knee
        ([4, 3.9, 3.5, 1], 4),  # bulges upwards
        ([5, 5, 5, 0], 3),
        ([5, 0, 0], 1),
        ([0, 0], 0),
        ([3], 1),
    ],
)
def test_the_knee_stands_where_the_sorted_values_sag_most(sigma, kept):
    expected = [1.0] * kept + [0.0] * (len(sigma) - kept)
    assert gains_of(Rank(cut="knee"), evidence([1.0] * len(sigma), sigma=sigma)).tolist() == expected


@given(spread, st.sampled_from(CUTS), st.sampled_from(SCORES), st.floats(1e-6, 1e6))
def test_no_cut_depends_on_the_unit_of_what_it_counts(values, cut, by, unit):
    """A power of two, so that scaling rounds nothing."""
    unit = 2.0 ** round(math.log2(unit))
    rng = np.random.default_rng(len(values))
    g, q = rng.normal(size=len(values)), rng.lognormal(size=len(values))
    policy = Rank(cut=cut, by=by, keep=2)
    once = gains_of(policy, evidence(sigma=values, g=g, q=q))
    again = gains_of(policy, evidence(sigma=np.array(values) * unit, g=g * unit, q=q))
    assert once.tolist() == again.tolist()
    assert set(once) <= {0.0, 1.0}


@given(spread, st.sampled_from(["energy", "para"]), st.sampled_from(SCORES))
def test_a_larger_share_keeps_what_a_smaller_one_keeps(values, cut, by):
    module = evidence(g=np.random.default_rng(len(values)).normal(size=len(values)), sigma=values)
    before = np.zeros(len(values))
    for share in (0.0, 0.3, 0.9, 0.99, 1.0):
        now = gains_of(Rank(cut=cut, share=share, by=by), module)
        assert (now >= before).all()
        before = now


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=7), st.integers(0, 7))
def test_no_other_choice_of_as_many_components_carries_more_of_the_inputs(values, keep):
    """Brute force: the error of a cut is E‖ΔWx − ΔW′x‖², here with inputs that are correlated."""
    r = len(values)
    sigma = np.sort(values)[::-1]
    root = np.random.default_rng(r).normal(size=(r, r))
    M = root @ root.T
    gains = gains_of(Rank(keep=keep, by="functional"), evidence(sigma=sigma, g=np.ones(r), q=np.diagonal(M)))

    def error(kept):
        left = sigma * (1 - kept)
        return float(np.trace(np.diag(left) @ M @ np.diag(left)))

    choices = [np.array([n >> k & 1 for k in range(r)]) for n in range(2**r)]
    best = min(error(kept) for kept in choices if kept.sum() <= keep)
    assert error(gains) == pytest.approx(best, rel=1e-9, abs=1e-9)


def test_what_was_not_measured_counts_for_nothing_and_what_overflows_comes_first():
    rows = stacked(
        evidence(sigma=[2.0, 1.0], g=[1.0, 1.0], q=[np.nan, np.nan], name="a"),
        evidence(sigma=[2e200, 1e200], g=[1e200, 1.0], q=[1.0, 1.0], name="b"),
    )
    assert Rank(keep=2, by="functional").sizes(rows).tolist() == [[0.0, 0.0], [2e200, 1e200]]
    assert Rank(cut="energy", by="gradient", share=0.9).gains(rows)[1].tolist() == [1.0, 0.0]


def test_the_name_of_earlier_versions_means_a_fixed_rank():
    assert make_policy("truncate", {"keep": 3, "by": "sensitivity", "magnitude": "abs_mean"}) == Rank(
        keep=3, by="sensitivity", magnitude="abs_mean"
    )
    assert set(FORMER_NAMES.values()) == {"rank"}
