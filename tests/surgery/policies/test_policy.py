"""Policies as a set: their knobs, how they are made, and that a stack is the sum of its rows."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.errors import PolicyError
from surgery.policies import (
    CUTS,
    HNS,
    POLICIES,
    SCORES,
    Clip,
    FunctionalHNS,
    GradDirection,
    Power,
    Rank,
    Scale,
    SmoothAbs,
    knob_values,
    knobs_of,
    make_policy,
    position_of,
)
from tests.helpers.policies import ROW_POLICIES, evidence, gains_of, stacked
from tests.helpers.refusals import refusal

# the table of the design, and the gates that only the released code has
DEFAULTS = {
    "identity": {},
    "abs_select": {
        "core_frac": 0.2, "noise_frac": 0.2, "min_core_k": 1, "amp": 1.25, "sup": 0.80, "mid": 1.0, "norm": "mean",
        "magnitude": "mean_abs",
    },
    "smooth_abs": {
        "core_frac": 0.2, "noise_frac": 0.2, "amp": 1.25, "sup": 0.80, "mid": 1.0, "temperature": 0.35,
        "center_q": 0.5, "align_mid": True, "norm": "mean", "magnitude": "mean_abs",
    },
    "double_smooth": {
        "core_frac": 0.2, "noise_frac": 0.2, "amp": 1.25, "sup": 0.80, "mid": 1.0, "temperature": 0.35,
        "norm": "mean", "magnitude": "mean_abs",
    },
    "z_score": {
        "amp": 1.25, "sup": 0.80, "mid": 1.0, "core_z": 1.0, "noise_z": -0.5, "softness": 0.2,
        "norm": "mean", "magnitude": "mean_abs",
    },
    "robust_z": {
        "amp": 1.25, "sup": 0.80, "mid": 1.0, "core_z": 1.0, "noise_z": -0.5, "softness": 0.2,
        "norm": "mean", "magnitude": "mean_abs",
    },
    "random_index": {
        "core_frac": 0.2, "noise_frac": 0.2, "min_core_k": 1, "amp": 1.25, "sup": 0.80, "mid": 1.0, "seed": 0,
    },
    "grad_direction": {"eta_suppress": 2.0, "eta_enhance": 0.2, "power": 1.0, "asymmetric": True, "eta": 0.2},
    "natural_gradient": {"eta": 0.1, "damping": 0.3},
    "protected": {"eta": 0.1, "damping": 0.3, "mu": 1.0, "limited": False, "limit": 0.005},
    "power": {"exponent": 0.5},
    "hns": {"fast": 4, "stable": 1},
    "top_shrink": {},
    "tail_lift": {},
    "clip": {"cap": 3.0},
    "functional_hns": {"fast": 4, "stable": 1, "alpha": 0.5},
    "functional_flat": {},
    "scale": {"gamma": 1.0},
    "rank": {"cut": "fixed", "keep": 8, "share": 0.95, "by": "sigma", "magnitude": "mean_abs"},
}  # fmt: skip
EVERY_POLICY = [
    *(policy() for policy in ROW_POLICIES.values()),
    *(
        POLICIES[name](magnitude="abs_mean", norm="l2")
        for name in ("abs_select", "smooth_abs", "double_smooth", "z_score", "robust_z")
    ),
    SmoothAbs(align_mid=False, core_frac=0.9, noise_frac=0.9, norm="none"),
    GradDirection(asymmetric=False),
    GradDirection(power=1.7),
    Rank(by="sensitivity", keep=3),
    *(Rank(cut=cut, by=by) for cut in CUTS for by in SCORES),
    HNS(fast=8, stable=0),
    Power(exponent=1.3),
    Clip(cap=1.0),
    FunctionalHNS(alpha=1.0),
]


def test_defaults_are_those_of_the_design():
    assert {name: knob_values(policy()) for name, policy in POLICIES.items()} == DEFAULTS


def test_policies_do_not_change_what_they_are_given():
    g = np.array([1.0, -2.0, 0.5])
    given_ = evidence(g=g, magnitude=np.abs(g))
    fields = ("sigma", "signed", "error", "magnitude", "second_moment", "q")
    copies = [getattr(given_, field).copy() for field in fields]
    for policy in EVERY_POLICY:
        gains_of(policy, given_)
    for before, field in zip(copies, fields, strict=True):
        assert before.tobytes() == getattr(given_, field).tobytes()


def test_every_policy_gives_one_gain_for_every_component_of_any_rank():
    for r in (1, 2, 3, 64, 256):
        g = np.random.default_rng(r).standard_normal(r)
        for policy in ROW_POLICIES.values():
            gains = gains_of(policy(), evidence(g=g))
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


OUTSIDE = {
    "below": lambda knob: knob.low - 1 if knob.low is not None else None,
    "above": lambda knob: knob.high * 2 + 1 if knob.high is not None and not knob.unbounded else None,
    "no number": lambda knob: float("nan") if knob.kind in (int, float) else None,
    "another kind": lambda knob: 1 if knob.kind in (bool, str) else "1",
    "no choice": lambda knob: "nothing of the kind" if knob.choices else None,
}


@pytest.mark.parametrize("how", OUTSIDE)
@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_refused_an_impossible_knob_however_it_is_made(name, how):
    policy = POLICIES[name]
    for knob in knobs_of(policy):
        value = OUTSIDE[how](knob)
        if value is None:
            continue
        for make in (
            lambda **knobs: policy(**knobs),
            lambda **knobs: dataclasses.replace(policy(), **knobs),
            lambda **knobs: make_policy(name, knobs),
        ):
            assert f"knob {knob.name} cannot be" in refusal(PolicyError, make, **{knob.name: value})


@given(
    st.sampled_from(EVERY_POLICY), st.integers(1, 40), st.integers(1, 12), st.integers(0, 10_000), st.booleans()
)
def test_a_module_has_the_same_bits_alone_and_in_a_stack(policy, rank, count, seed, coarse):
    rng = np.random.default_rng(seed)
    rows = [rng.lognormal(sigma=2.0, size=rank) * rng.choice([-1, 1], rank) for _ in range(count)]
    if coarse:  # ties, zeros and flat modules
        rows = [np.round(row) for row in rows]
    modules = [evidence(g=row, sigma=np.sort(np.abs(row))[::-1], name=f"m.{i}") for i, row in enumerate(rows)]
    together = policy.gains(stacked(*modules))
    assert together.shape == (count, rank)
    assert together.dtype == np.float64
    for row, module in zip(together, modules, strict=True):
        assert row.tobytes() == gains_of(policy, module).tobytes()


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda policy: policy.name)
@pytest.mark.parametrize("rank", [1, 7, 8, 9, 16, 63, 128, 200, 256])
def test_long_rows_have_the_same_bits_alone_and_in_a_stack(policy, rank):
    # sums of more than 8 and of more than 128 numbers take other paths than shorter ones
    g = np.random.default_rng(rank).standard_normal((5, rank))
    modules = [evidence(g=row, name=f"m.{i}") for i, row in enumerate(g)]
    for row, module in zip(policy.gains(stacked(*modules)), modules, strict=True):
        assert row.tobytes() == gains_of(policy, module).tobytes()


def test_the_gates_stand_on_normalised_magnitude_and_the_steps_on_the_signed_mean():
    g = np.array([1.0, -3.0, 0.0, 4.0])
    module = evidence([2.0, 3.0, 1.0, 6.0], g=g)
    for policy, expected in (
        (POLICIES["abs_select"](), [2 / 3, 1.0, 1 / 3, 2.0]),
        (POLICIES["abs_select"](magnitude="abs_mean"), [0.5, 1.5, 0.0, 2.0]),
        (POLICIES["abs_select"](norm="none"), [2.0, 3.0, 1.0, 6.0]),
        (POLICIES["z_score"](norm="l2"), np.array([2.0, 3.0, 1.0, 6.0]) / np.sqrt(50.0)),
        (GradDirection(), [0.5, -1.5, 0.0, 2.0]),
        (Scale(), [0.0, 1.0, 2.0, 3.0]),
        (Rank(keep=2), [0.0, 1.0, 2.0, 3.0]),
    ):
        _, position = position_of(policy, module)
        np.testing.assert_allclose(position, [expected], err_msg=policy.name)


@pytest.mark.parametrize("policy", EVERY_POLICY, ids=lambda policy: policy.name)
def test_every_policy_has_one_position_for_each_component_and_says_what_it_is(policy):
    rng = np.random.default_rng(0)
    rows = stacked(*(evidence(g=rng.standard_normal(5), name=f"m.{i}") for i in range(3)))
    label, position = position_of(policy, rows)
    assert label
    assert position.shape == (3, 5)
    assert np.isfinite(position).all()


@pytest.mark.parametrize(
    "name", ["abs_select", "smooth_abs", "double_smooth", "z_score", "robust_z", "grad_direction"]
)
def test_the_gain_of_a_gate_is_a_function_of_the_position_alone(name):
    # components of equal position have equal gains, ties of the hard gate aside
    policy = POLICIES[name]()
    g = np.array([0.5, 1.0, -2.0, 0.25, 1.5, -0.75])
    module = evidence(g=g)
    _, position = position_of(policy, module)
    order, gains = np.argsort(position[0]), gains_of(policy, module)
    steps = np.diff(gains[order])
    assert (steps >= -1e-12).all() or (steps <= 1e-12).all()
