"""Knobs: their ranges hold however a policy is made."""

import dataclasses

import pytest

from surgery.errors import PolicyError
from surgery.policies import (
    POLICIES,
    Clip,
    Rank,
    Scale,
    knobs_of,
    make_policy,
)
from tests.helpers.refusals import refusal


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
                wanted = value if isinstance(value, tuple) else (value,)
                assert all(isinstance(each, knobs[name_of_switch].kind) for each in wanted)
            assert knob.kind in (int, float, bool, str)
            assert isinstance(knob.default, knob.kind)
            assert (knob.low is not None and knob.high is not None) == (knob.kind in (int, float))
            assert bool(knob.choices) == (knob.kind is str)


@pytest.mark.parametrize("kind", POLICIES.values(), ids=POLICIES)
def test_a_policy_refuses_what_its_knobs_do_not_allow_however_it_is_made(kind):
    for knob in knobs_of(kind):
        for value in impossible(knob):
            told = refusal(PolicyError, make_policy, kind.name, {knob.name: value})
            assert refusal(PolicyError, kind, **{knob.name: value}) == told
            assert refusal(PolicyError, dataclasses.replace, kind(), **{knob.name: value}) == told


def impossible(knob):
    """Values out of a knob's range, or of another kind."""
    if knob.kind is bool:
        return [1, "true"]
    if knob.kind is str:
        return ["", 1]
    ends = [] if knob.unbounded else [knob.high + 1, float("inf")]
    return [
        (knob.low or 0) - 1,
        float("nan"),
        "1",
        True,
        *ends,
        *([0.5] if knob.kind is int else []),
    ]


def test_a_knob_whose_range_is_only_that_of_its_slider_takes_what_lies_past_its_end():
    (cap,) = knobs_of(Clip)
    for value in (cap.high * 50, float("inf")):
        assert make_policy("clip", {"cap": value}) == Clip(cap=value)
    for value in (10**400, float("nan"), -float("inf"), cap.low / 2):
        assert "number from 0.5 up" in refusal(PolicyError, make_policy, "clip", {"cap": value})


def test_only_counts_of_components_end_at_the_rank():
    counting = {(kind.name, knob.name) for kind in POLICIES.values() for knob in knobs_of(kind) if knob.components}
    assert counting == {("abs_select", "min_core_k"), ("random_index", "min_core_k"), ("rank", "keep")}


def test_whole_numbers_stand_for_floats_and_whole_floats_for_integers():
    assert make_policy("scale", {"gamma": 2}) == Scale(gamma=2.0)
    assert make_policy("rank", {"keep": 3.0}) == Rank(keep=3)


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
        ("rank", {"keep": 10**400}, "keep"),
        ("abs_select", {"norm": "max"}, "mean, l2, none"),
        ("abs_select", {"norm": 2}, "norm"),
        ("smooth_abs", {"align_mid": 1}, "true or false"),
        ("smooth_abs", {"temperature": 0.0}, "temperature"),
        ("smooth_abs", {"magnitude": "median"}, "mean_abs, abs_mean"),
        ("z_score", {"core_frac": 0.2}, "core_frac"),
        ("z_score", {"noise_z": -8.1}, "from -8 to 8"),
        ("robust_z", {"softness": 0.0}, "softness"),
        ("random_index", {"seed": -1}, "seed"),
        ("random_index", {"seed": 2**31}, "seed"),
        ("rank", {"by": "energy"}, "sigma, functional, gradient, sensitivity"),
    ],
)
def test_a_policy_or_a_knob_that_does_not_exist_or_is_out_of_range_is_refused(name, knobs, word):
    with pytest.raises(PolicyError) as caught:
        make_policy(name, knobs)
    assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
