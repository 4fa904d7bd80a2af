"""Every policy against its formula, written out here again in plain Python."""

import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from surgery.errors import PolicyError
from surgery.policy import (
    POLICIES,
    AbsSelect,
    Evidence,
    GradDirection,
    Identity,
    RandomIndex,
    Scale,
    SmoothAbs,
    Truncate,
    knob_values,
    knobs_of,
    make_policy,
)

# the table of the design, word for word
DEFAULTS = {
    "identity": {},
    "abs_select": {
        "core_frac": 0.2, "noise_frac": 0.2, "min_core_k": 1, "amp": 1.25, "sup": 0.80, "mid": 1.0, "norm": "mean",
    },
    "smooth_abs": {
        "core_frac": 0.2, "noise_frac": 0.2, "amp": 1.25, "sup": 0.80, "mid": 1.0, "temperature": 0.35,
        "center_q": 0.5, "align_mid": True, "norm": "mean",
    },
    "random_index": {
        "core_frac": 0.2, "noise_frac": 0.2, "min_core_k": 1, "amp": 1.25, "sup": 0.80, "mid": 1.0, "seed": 0,
    },
    "grad_direction": {"eta_suppress": 2.0, "eta_enhance": 0.2, "power": 1.0, "asymmetric": True, "eta": 0.2},
    "scale": {"gamma": 1.0},
    "truncate": {"keep": 8, "by": "sigma"},
}  # fmt: skip

# few distinct values, so that ties are common
tied = st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 7.0]), min_size=1, max_size=24)
spread = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=24)
signed = st.lists(st.floats(-100, 100).filter(lambda g: g == 0 or abs(g) > 1e-6), min_size=1, max_size=24)
fractions = st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.3125, 0.5, 0.9, 1.0])


def evidence(magnitude=None, *, g=None, sigma=None, name="m") -> Evidence:
    signs = np.asarray(g if g is not None else magnitude, dtype=np.float64)
    size = np.abs(signs) if magnitude is None else np.asarray(magnitude, dtype=np.float64)
    default = np.arange(signs.size, 0, -1.0)
    return Evidence(name, default if sigma is None else np.asarray(sigma, dtype=np.float64), signs, size)


# ---- the formulas, again ----


def normalised(values, norm):
    if norm == "none":
        return list(values)
    if norm == "mean":
        scale = math.fsum(abs(v) for v in values) / len(values)
    else:
        scale = math.sqrt(math.fsum(v * v for v in values))
    return [v / scale for v in values] if scale else list(values)


def gate_counts(r, core_frac, noise_frac, min_core_k):
    core = min(r, max(round(r * core_frac), min_core_k))
    return core, min(max(round(r * noise_frac), 0), r - core)


def quantile(values, q):
    """Linear interpolation between order statistics."""
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def sigmoid(t):
    return 1 / (1 + math.exp(-t)) if t > -700 else 0.0


# ---- abs_select and random_index ----


@given(tied, fractions, fractions, st.integers(0, 30), st.sampled_from(["mean", "l2", "none"]))
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
    assert policy.gains(evidence(values)).tolist() == expected


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
        gains = policy.gains(evidence(values)).tolist()
        assert (gains.count(2.0), gains.count(0.5)) == counts


def test_equal_magnitudes_are_ranked_by_index():
    gains = AbsSelect(core_frac=0.25, noise_frac=0.25).gains(evidence([1.0] * 8))
    assert gains.tolist() == [1.25, 1.25, 1, 1, 1, 1, 0.8, 0.8]


@given(tied, fractions, fractions, st.integers(0, 30), st.integers(0, 2**31 - 1), st.text(max_size=20))
def test_random_index_has_the_same_gains_as_abs_select_in_another_order(
    values, core, noise, min_core_k, seed, name
):
    gates = {"core_frac": core, "noise_frac": noise, "min_core_k": min_core_k, "amp": 1.5, "sup": 0.5, "mid": 1.0}
    select = AbsSelect(**gates).gains(evidence(values))
    random = RandomIndex(**gates, seed=seed).gains(evidence(values, name=name))
    assert sorted(select.tolist()) == sorted(random.tolist())


def test_random_index_depends_on_seed_and_module_name_and_on_nothing_else():
    def draw(seed, name, values, sigma=None):
        return tuple(RandomIndex(seed=seed).gains(evidence(values, name=name, sigma=sigma)))

    ones = [1.0] * 16
    assert draw(3, "a", ones) == draw(3, "a", np.arange(16.0), np.linspace(9, 1, 16))
    by_seed = {draw(seed, "a", ones) for seed in range(40)}
    by_name = {draw(0, f"layers.{i}.o_proj", ones) for i in range(40)}
    assert len(by_seed) > 35
    assert len(by_name) > 35
    # seed and name stay apart: neither "1" + "2a" nor "12" + "a" may meet the other
    assert draw(1, "2a", ones) != draw(12, "a", ones)


def test_random_index_touches_every_component_about_equally_often():
    raised = np.zeros(10)
    for seed in range(1000):
        raised += RandomIndex(seed=seed).gains(evidence([1.0] * 10)) == 1.25
    # 200 of 1000 each, five standard deviations either way
    assert (abs(raised - 200) < 5 * math.sqrt(1000 * 0.2 * 0.8)).all()


# ---- smooth_abs ----


@given(
    tied | spread,
    fractions,
    fractions,
    st.sampled_from([0.01, 0.35, 2.0]),
    fractions,
    st.booleans(),
    st.sampled_from(["mean", "l2", "none"]),
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
    gains = policy.gains(evidence(values))
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
            assert policy.gains(evidence(values))[k] == pytest.approx(0.95, abs=1e-6)


@given(tied | spread)
def test_smooth_abs_rises_with_the_magnitude_and_stays_between_its_gates(values):
    gains = SmoothAbs().gains(evidence(values))
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
    assert policy.gains(evidence(values)) == pytest.approx(expected, rel=1e-12)


def test_smooth_abs_gives_mid_to_a_module_without_contrast():
    for values in ([0.0, 0.0], [3.0, 3.0, 3.0], [2.0]):
        assert SmoothAbs(mid=0.9).gains(evidence(values)).tolist() == [0.9] * len(values)


def test_smooth_abs_becomes_a_step_when_most_components_are_tied():
    gains = SmoothAbs(align_mid=False).gains(evidence([1.0] * 9 + [5.0]))
    assert gains[:9] == pytest.approx(np.full(9, 1.025))
    assert gains[9] == pytest.approx(1.25)


@pytest.mark.parametrize(("sup", "mid", "amp"), [(1.0, 1.0, 1.25), (0.8, 1.25, 1.25), (1.25, 1.0, 0.8)])
def test_align_mid_needs_ordered_gates(sup, mid, amp):
    with pytest.raises(PolicyError, match="sup < mid < amp"):
        SmoothAbs(sup=sup, mid=mid, amp=amp).gains(evidence([1.0, 2.0, 3.0]))
    assert np.isfinite(SmoothAbs(sup=sup, mid=mid, amp=amp, align_mid=False).gains(evidence([1.0, 2.0]))).all()


# ---- grad_direction ----


@given(signed, st.floats(0, 3), st.floats(0, 1), st.sampled_from([0.5, 1.0, 2.0]))
def test_grad_direction_follows_its_formula(g, suppress, enhance, power):
    unit = normalised(g, "mean")
    expected = [math.exp(-(suppress * max(v, 0.0) ** power - enhance * max(-v, 0.0))) for v in unit]
    policy = GradDirection(eta_suppress=suppress, eta_enhance=enhance, power=power)
    assert policy.gains(evidence(g=g)) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    symmetric = dataclasses.replace(policy, asymmetric=False, eta=0.7).gains(evidence(g=g))
    assert symmetric == pytest.approx([math.exp(-0.7 * v) for v in unit], rel=1e-9)


@given(signed)
def test_a_positive_gradient_lowers_the_gain_and_a_negative_one_raises_it(g):
    for policy in (GradDirection(), GradDirection(asymmetric=False)):
        for slope, gain in zip(g, policy.gains(evidence(g=g)), strict=True):
            if slope > 0:
                assert gain < 1 or slope < 1e-9 * max(g)
            elif slope < 0:
                assert gain > 1 or -slope < 1e-9 * max(map(abs, g))
            else:
                assert gain == 1


def test_grad_direction_matches_a_table_computed_by_hand():
    # mean |g| = 2, so g̃ = 1, −2, 0.5, −0.5
    gains = GradDirection().gains(evidence(g=[2.0, -4.0, 1.0, -1.0]))
    assert gains == pytest.approx([math.exp(-2), math.exp(0.4), math.exp(-1), math.exp(0.1)], rel=1e-14)


@given(signed, st.sampled_from([1e-8, 3.0, 1e6]))
def test_the_unit_of_the_sensitivities_does_not_matter(g, unit):
    scaled = [unit * v for v in g]
    for policy in (GradDirection(), AbsSelect(), SmoothAbs()):
        before, after = policy.gains(evidence(g=g)), policy.gains(evidence(g=scaled))
        if isinstance(policy, SmoothAbs):
            x = sorted(normalised([abs(v) for v in g], "mean"))
            # where the spread is at rounding level the gate is a step, and rounding picks the side
            assume(quantile(x, 0.8) - quantile(x, 0.2) > 1e-6)
        assert after == pytest.approx(before, rel=1e-6)


# ---- identity, scale, truncate ----


@given(signed)
def test_identity_and_scale_give_one_gain_to_all(g):
    assert Identity().gains(evidence(g=g)).tolist() == [1.0] * len(g)
    assert Scale(gamma=0.7).gains(evidence(g=g)).tolist() == [0.7] * len(g)


@given(tied, st.integers(0, 30))
def test_truncate_keeps_the_leading_components_by_sigma_or_by_sensitivity(values, keep):
    r = len(values)
    leading = sorted(range(r), key=lambda k: (-values[k], k))[:keep]
    expected = [1.0 if k in leading else 0.0 for k in range(r)]
    by_sensitivity = Truncate(keep=keep, by="sensitivity").gains(evidence(values))
    by_sigma = Truncate(keep=keep, by="sigma").gains(evidence([1.0] * r, sigma=values))
    assert by_sensitivity.tolist() == expected
    assert by_sigma.tolist() == expected


def test_truncate_by_sigma_ignores_the_sensitivities():
    gains = Truncate(keep=1).gains(evidence([0.0, 9.0], sigma=[2.0, 1.0]))
    assert gains.tolist() == [1.0, 0.0]


# ---- policies as a set ----


def test_defaults_are_those_of_the_design():
    assert {name: knob_values(policy()) for name, policy in POLICIES.items()} == DEFAULTS


def test_every_policy_has_a_name_a_title_and_help_for_every_knob():
    for name, policy in POLICIES.items():
        assert policy.name == name
        assert policy.title
        assert dataclasses.is_dataclass(policy)
        knobs = {knob.name: knob for knob in knobs_of(policy)}
        for position, knob in enumerate(knobs.values()):
            assert knob.help
            if knob.when is not None:
                name_of_switch, value = knob.when
                assert name_of_switch in list(knobs)[:position]
                assert isinstance(value, knobs[name_of_switch].kind)
            assert knob.kind in (int, float, bool, str)
            assert isinstance(knob.default, knob.kind)
            assert (knob.low is not None and knob.high is not None) == (knob.kind in (int, float))
            assert bool(knob.choices) == (knob.kind is str)


def test_policies_do_not_change_what_they_are_given():
    g = np.array([1.0, -2.0, 0.5])
    given_ = evidence(g=g, magnitude=np.abs(g))
    copies = [array.copy() for array in (given_.sigma, given_.signed, given_.magnitude)]
    for policy in POLICIES.values():
        policy().gains(given_)
    for before, after in zip(copies, (given_.sigma, given_.signed, given_.magnitude), strict=True):
        assert before.tobytes() == after.tobytes()


def test_every_policy_gives_one_gain_for_every_component_of_any_rank():
    for r in (1, 2, 3, 64, 256):
        g = np.random.default_rng(r).standard_normal(r)
        for policy in POLICIES.values():
            gains = policy().gains(evidence(g=g))
            assert gains.shape == (r,)
            assert gains.dtype == np.float64
            assert np.isfinite(gains).all()
            assert (gains >= 0).all()


def test_a_policy_is_made_by_name_with_its_knobs_at_the_limits_of_their_ranges():
    for name, kind in POLICIES.items():
        assert make_policy(name) == kind()
        for knob in knobs_of(kind):
            for value in knob.choices or ([True, False] if knob.kind is bool else [knob.low, knob.high]):
                made = make_policy(name, {knob.name: value})
                assert knob_values(made) == {**knob_values(kind()), knob.name: value}
                assert type(getattr(made, knob.name)) is knob.kind


def test_whole_numbers_stand_for_floats_and_whole_floats_for_integers():
    assert make_policy("scale", {"gamma": 2}) == Scale(gamma=2.0)
    assert make_policy("truncate", {"keep": 3.0}) == Truncate(keep=3)


@pytest.mark.parametrize(
    ("name", "knobs", "word"),
    [
        ("gradient", {}, "gradient"),
        ("", {}, "policy"),
        ("abs_select", {"eta": 1.0}, "eta"),
        ("identity", {"amp": 1.0}, "no knobs"),
        ("abs_select", {"amp": -0.1}, "amp"),
        ("abs_select", {"amp": 4.1}, "amp"),
        ("abs_select", {"amp": "1.2"}, "amp"),
        ("abs_select", {"amp": True}, "amp"),
        ("abs_select", {"amp": None}, "amp"),
        ("abs_select", {"amp": float("nan")}, "amp"),
        ("abs_select", {"amp": float("inf")}, "amp"),
        ("abs_select", {"amp": 10**400}, "amp"),
        ("abs_select", {"min_core_k": 1.5}, "min_core_k"),
        ("abs_select", {"min_core_k": float("nan")}, "min_core_k"),
        ("abs_select", {"min_core_k": float("inf")}, "min_core_k"),
        ("truncate", {"keep": 10**400}, "keep"),
        ("abs_select", {"norm": "max"}, "mean, l2, none"),
        ("abs_select", {"norm": 2}, "norm"),
        ("smooth_abs", {"align_mid": 1}, "true or false"),
        ("smooth_abs", {"temperature": 0.0}, "temperature"),
        ("random_index", {"seed": -1}, "seed"),
        ("random_index", {"seed": 2**31}, "seed"),
        ("truncate", {"by": "energy"}, "sigma, sensitivity"),
    ],
)
def test_a_policy_or_a_knob_that_does_not_exist_or_is_out_of_range_is_refused(name, knobs, word):
    with pytest.raises(PolicyError) as caught:
        make_policy(name, knobs)
    assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
