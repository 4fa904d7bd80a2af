"""The policies that gate by magnitude against their formulas, written out again in plain Python."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from surgery.errors import PolicyError
from surgery.policies import AbsSelect, DoubleSmooth, RandomIndex, Rank, RobustZ, SmoothAbs, ZScore
from tests.helpers.policies import (
    evidence,
    fractions,
    gains_of,
    gate_counts,
    mean_and_deviation,
    median_and_deviation,
    normalised,
    norms,
    quantile,
    sigmoid,
    spread,
    stacked,
    tied,
    two_gates,
)

# ---- abs_select ----


@given(tied, fractions, fractions, st.integers(0, 30), norms)
def test_abs_select_amplifies_the_largest_and_suppresses_the_smallest(values, core, noise, min_core_k, norm):
    policy = AbsSelect(
        core_frac=core, noise_frac=noise, min_core_k=min_core_k, amp=1.5, sup=0.5, mid=1.0, norm=norm
    )
    r = len(values)
    k_core, k_noise = gate_counts(r, core, noise, min_core_k)
    # of equal magnitudes the lower index ranks higher
    ranking = sorted(range(r), key=lambda k: (-values[k], k))
    expected = [1.0] * r
    for k in ranking[:k_core]:
        expected[k] = 1.5
    for k in ranking[r - k_noise :]:
        expected[k] = 0.5
    assert gains_of(policy, evidence(values)).tolist() == expected


@pytest.mark.parametrize(
    ("r", "core", "noise", "min_core_k", "counts"),
    [
        (16, 0.2, 0.2, 1, (3, 3)),
        (8, 0.2, 0.2, 1, (2, 2)),
        (4, 0.2, 0.2, 1, (1, 1)),
        (2, 0.2, 0.2, 1, (1, 0)),
        (1, 0.2, 0.2, 1, (1, 0)),
        (1, 0.2, 1.0, 0, (0, 1)),
        (4, 0.2, 0.2, 64, (4, 0)),
        (4, 0.75, 0.75, 1, (3, 1)),
        (4, 0.0, 0.0, 0, (0, 0)),
        # round to even, as the formula's round does
        (10, 0.25, 0.35, 0, (2, 4)),
    ],
)
def test_the_number_of_gates_is_that_of_the_hand_computed_table(r, core, noise, min_core_k, counts):
    values = np.arange(1.0, r + 1)
    for kind in (AbsSelect, RandomIndex):
        policy = kind(core_frac=core, noise_frac=noise, min_core_k=min_core_k, amp=2.0, sup=0.5, mid=1.0)
        gains = gains_of(policy, evidence(values)).tolist()
        assert (gains.count(2.0), gains.count(0.5)) == counts


def test_equal_magnitudes_are_ranked_by_index():
    gains = gains_of(AbsSelect(core_frac=0.25, noise_frac=0.25), evidence([1.0] * 8))
    assert gains.tolist() == [1.25, 1.25, 1, 1, 1, 1, 0.8, 0.8]


# ---- smooth_abs ----


@given(
    tied | spread,
    fractions,
    fractions,
    st.sampled_from([0.05, 0.35, 2.0]),
    fractions,
    st.booleans(),
    norms,
)
def test_smooth_abs_follows_its_formula(values, core, noise, temperature, center_q, align_mid, norm):
    amp, sup, mid = 1.5, 0.6, 1.0
    policy = SmoothAbs(
        core_frac=core,
        noise_frac=noise,
        amp=amp,
        sup=sup,
        mid=mid,
        temperature=temperature,
        center_q=center_q,
        align_mid=align_mid,
        norm=norm,
    )
    gains = gains_of(policy, evidence(values))
    x = normalised(values, norm)
    if max(x) - min(x) < 1e-12:
        assert gains.tolist() == [mid] * len(x)
        return
    width = quantile(x, 1 - core) - quantile(x, noise)
    if width < 1e-9:
        # rounding decides whether the quantiles cross
        assume(width < -1e-9)
        width = quantile(x, 0.75) - quantile(x, 0.25)
        assume(width > 1e-9)
    tau = temperature * width
    mu = quantile(x, center_q)
    if align_mid:
        mu -= tau * math.log((mid - sup) / (amp - mid))
    expected = [sup + (amp - sup) * sigmoid((v - mu) / tau) for v in x]
    assert gains == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(spread, fractions)
def test_with_align_mid_the_centre_gets_exactly_mid(values, center_q):
    assume(max(values) > 1.001 * min(values))
    policy = SmoothAbs(center_q=center_q, mid=0.95)
    x = normalised(values, "mean")
    centre = quantile(x, center_q)
    assume(any(abs(v - centre) < 1e-15 for v in x))
    for k, v in enumerate(x):
        if abs(v - centre) < 1e-15:
            assert gains_of(policy, evidence(values))[k] == pytest.approx(0.95, abs=1e-6)


@given(tied | spread)
def test_smooth_abs_rises_with_the_magnitude_and_stays_between_its_gates(values):
    gains = gains_of(SmoothAbs(), evidence(values))
    assert gains.min() >= 0.80 - 1e-12
    assert gains.max() <= 1.25 + 1e-12
    order = sorted(range(len(values)), key=lambda k: values[k])
    assert all(gains[b] >= gains[a] - 1e-12 for a, b in pairwise(order))


def test_smooth_abs_uses_the_quartiles_when_the_quantiles_cross():
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    # Q(0.2) − Q(0.8) < 0, so τ = 1·(4 − 2) and the centre is 3
    policy = SmoothAbs(
        core_frac=0.8, noise_frac=0.8, amp=2.0, sup=0.0, temperature=1.0, align_mid=False, norm="none"
    )
    expected = [2 / (1 + math.exp(-(v - 3) / 2)) for v in values]
    assert gains_of(policy, evidence(values)) == pytest.approx(expected, rel=1e-12)


def test_smooth_abs_gives_mid_to_a_module_without_contrast():
    for values in ([0.0, 0.0], [3.0, 3.0, 3.0], [2.0]):
        assert gains_of(SmoothAbs(mid=0.9), evidence(values)).tolist() == [0.9] * len(values)


def test_smooth_abs_becomes_a_step_when_most_components_are_tied():
    gains = gains_of(SmoothAbs(align_mid=False), evidence([1.0] * 9 + [5.0]))
    assert gains[:9] == pytest.approx(np.full(9, 1.025))
    assert gains[9] == pytest.approx(1.25)


@pytest.mark.parametrize(("sup", "mid", "amp"), [(1.0, 1.0, 1.25), (0.8, 1.25, 1.25), (1.25, 1.0, 0.8)])
def test_align_mid_needs_ordered_gates(sup, mid, amp):
    with pytest.raises(PolicyError, match="sup < mid < amp"):
        gains_of(SmoothAbs(sup=sup, mid=mid, amp=amp), evidence([1.0, 2.0, 3.0]))
    assert np.isfinite(gains_of(SmoothAbs(sup=sup, mid=mid, amp=amp, align_mid=False), evidence([1.0, 2.0]))).all()


# ---- double_smooth ----


@given(tied | spread, fractions, fractions, st.sampled_from([0.05, 0.35, 2.0]), norms)
def test_double_smooth_follows_its_formula(values, core, noise, temperature, norm):
    policy = DoubleSmooth(
        core_frac=core, noise_frac=noise, amp=1.5, sup=0.6, mid=0.9, temperature=temperature, norm=norm
    )
    gains = gains_of(policy, evidence(values))
    x = normalised(values, norm)
    if max(x) - min(x) < 1e-12:
        assert gains.tolist() == [0.9] * len(x)
        return
    assume(max(x) - min(x) > 1e-9)
    low, high = (noise, 1 - core) if noise < 1 - core else (0.45, 0.55)
    tau = temperature * (max(x) - min(x))
    expected = [
        two_gates((quantile(x, low) - v) / tau, (v - quantile(x, high)) / tau, amp=1.5, sup=0.6, mid=0.9)
        for v in x
    ]
    assert gains == pytest.approx(expected, rel=1e-7)


def test_double_smooth_matches_a_table_computed_by_hand():
    # Q(0.25) = 2, Q(0.75) = 4 and τ = 0.5·4; sigmoid(0.5) = 0.62246, (−0.5) 0.37754, (−1.5) 0.18243, (0) 0.5
    policy = DoubleSmooth(core_frac=0.25, noise_frac=0.25, amp=2.0, sup=0.0, mid=1.0, temperature=0.5, norm="none")
    gains = gains_of(policy, evidence([1.0, 2.0, 3.0, 4.0, 5.0]))
    falls, rises = [0.62246, 0.5, 0.37754, 0.26894, 0.18243], [0.18243, 0.26894, 0.37754, 0.5, 0.62246]
    assert gains == pytest.approx([1 - f + r for f, r in zip(falls, rises, strict=True)], abs=2e-5)


# ---- z_score and robust_z ----

Z_POLICIES = [(ZScore, mean_and_deviation), (RobustZ, median_and_deviation)]


@pytest.mark.parametrize(("kind", "centre_and_deviation"), Z_POLICIES)
@given(
    values=tied | spread,
    core_z=st.sampled_from([1.0, 0.0, 2.5]),
    noise_z=st.sampled_from([-0.5, 0.0, -3.0]),
    softness=st.sampled_from([0.05, 0.2, 1.0]),
    norm=norms,
)
def test_z_gates_follow_their_formula(kind, centre_and_deviation, values, core_z, noise_z, softness, norm):
    policy = kind(amp=1.5, sup=0.6, mid=0.9, core_z=core_z, noise_z=noise_z, softness=softness, norm=norm)
    gains = gains_of(policy, evidence(values))
    x = normalised(values, norm)
    centre, deviation = centre_and_deviation(x)
    # rounding decides what is just at the limit
    assume(not 0.99e-6 < deviation < 1e-5)
    if deviation < 1e-6:
        assert gains.tolist() == [1.0] * len(x)
        return
    z = [(v - centre) / deviation for v in x]
    expected = [two_gates((noise_z - v) / softness, (v - core_z) / softness, amp=1.5, sup=0.6, mid=0.9) for v in z]
    assert gains == pytest.approx(expected, rel=1e-6)


def test_z_gates_match_a_table_computed_by_hand():
    gates = {
        "amp": 2.0,
        "sup": 0.5,
        "mid": 1.0,
        "core_z": 1.03,
        "noise_z": -0.35,
        "softness": 0.05,
        "norm": "none",
    }
    # no z below is nearer than 0.319 to a gate, so every sigmoid is 0 or 1 to exp(−0.319/0.05) = 0.0017
    step = partial(pytest.approx, abs=0.0026)
    # mean 3, std √2: z = ∓1.41421, ∓0.70711, 0
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    assert gains_of(ZScore(**gates), evidence(values)) == step([0.5, 0.5, 1, 1, 2])
    # median 3, MAD 1: z = ∓1.34898, ∓0.67449, 0
    assert gains_of(RobustZ(**gates), evidence(values)) == step([0.5, 0.5, 1, 1, 2])
    # an outlier pulls the mean above every other component, and the median not at all
    values[4] = 500.0
    assert gains_of(ZScore(**gates), evidence(values))[:4].max() < 0.9
    assert gains_of(RobustZ(**gates), evidence(values)) == step([0.5, 0.5, 1, 1, 2])


@pytest.mark.parametrize("values", [[2.0], [3.0, 3.0, 3.0], [0.0, 0.0], [1.0, 1.0 + 1e-7]])
def test_z_gates_leave_a_module_without_spread_as_it_is(values):
    for kind in (ZScore, RobustZ):
        assert gains_of(kind(mid=0.7), evidence(values)).tolist() == [1.0] * len(values)


def test_robust_z_leaves_a_module_alone_in_which_most_components_are_equal():
    assert gains_of(RobustZ(), evidence([1.0, 1.0, 1.0, 9.0, 0.5])).tolist() == [1.0] * 5
    assert gains_of(ZScore(), evidence([1.0, 1.0, 1.0, 9.0, 0.5]))[3] > 1.2


@given(tied | spread)
def test_the_two_sided_gates_rise_with_the_magnitude_and_stay_between_their_gains(values):
    order = sorted(range(len(values)), key=lambda k: values[k])
    for policy in (DoubleSmooth(), ZScore(), RobustZ()):
        gains = gains_of(policy, evidence(values))
        assert gains.min() >= 0.80 - 1e-12
        assert gains.max() <= 1.25 + 1e-12
        assert all(gains[b] >= gains[a] - 1e-12 for a, b in pairwise(order))


# ---- which magnitude ----

RANKED_BY_MAGNITUDE = [AbsSelect, SmoothAbs, DoubleSmooth, ZScore, RobustZ]


@pytest.mark.parametrize("kind", RANKED_BY_MAGNITUDE)
def test_abs_mean_ranks_by_the_signed_mean_and_mean_abs_by_the_mean_magnitude(kind):
    # component 0 is large but its examples disagree, component 4 small and steady
    magnitude, g = [9.0, 4.0, 3.0, 2.0, 1.0], [0.0, 0.25, -0.5, 0.75, -1.0]
    both = evidence(magnitude, g=g)
    assert np.argmax(gains_of(kind(), both)) == 0
    assert np.argmax(gains_of(kind(magnitude="abs_mean"), both)) == 4
    for policy, seen in ((kind(), magnitude), (kind(magnitude="abs_mean"), [abs(v) for v in g])):
        assert gains_of(policy, both).tolist() == gains_of(kind(), evidence(seen)).tolist()


def test_truncation_by_sensitivity_knows_both_magnitudes():
    both = evidence([9.0, 1.0], g=[0.0, -1.0])
    assert gains_of(Rank(keep=1, by="sensitivity"), both).tolist() == [1.0, 0.0]
    assert gains_of(Rank(keep=1, by="sensitivity", magnitude="abs_mean"), both).tolist() == [0.0, 1.0]


def test_a_flat_module_in_a_stack_gets_mid_while_its_neighbours_are_gated():
    pair = stacked(evidence([3.0, 3.0, 3.0], name="flat"), evidence([1.0, 2.0, 9.0], name="m"))
    for policy in (SmoothAbs(mid=0.9), DoubleSmooth(mid=0.9)):
        flat, gated = policy.gains(pair)
        assert flat.tolist() == [0.9] * 3
        assert gated.tolist() == gains_of(policy, evidence([1.0, 2.0, 9.0])).tolist()
        assert gated[2] > gated[0]
