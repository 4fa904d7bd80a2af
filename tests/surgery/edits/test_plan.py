"""What an edit does, as a record and back."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.edits import EditPlan, edit_record, make_edit, parse_edit
from surgery.errors import PolicyError, RecipeError
from surgery.policies import POLICIES, Rank, Scale, make_policy
from tests.helpers.policies import spectrum
from tests.helpers.refusals import refusal

NAME = "model.layers.0.self_attn.o_proj"


@given(
    st.sampled_from(list(POLICIES)),
    st.sampled_from(["residual", "all", r"^a\.b$"]),
    st.sampled_from(["l1", "l2", "none"]),
    st.floats(0, 1e3),
    st.dictionaries(
        st.text(max_size=4), st.dictionaries(st.integers(0, 99), st.floats(0, 9), min_size=1), max_size=2
    ),
)
def test_the_record_of_a_plan_is_that_plan(name, scope, energy, sigma_min, manual):
    plan = EditPlan(POLICIES[name](), scope, energy, sigma_min, manual)
    assert parse_edit(edit_record(plan)) == plan


def test_what_a_record_leaves_out_has_its_default():
    assert parse_edit({"policy": "grad_direction"}) == EditPlan()


@pytest.mark.parametrize("name", POLICIES)
def test_the_energy_rule_that_nobody_named_is_the_policys_own(name):
    size_is_the_effect = ("rank", "scale", "natural_gradient", "protected", "top_shrink", "tail_lift", "clip")
    usual = "none" if name in size_is_the_effect else "l1"
    assert EditPlan(POLICIES[name]()).energy == parse_edit({"policy": name}).energy == usual
    assert EditPlan(POLICIES[name](), energy="l2").energy == "l2"


@pytest.mark.parametrize(
    ("changes", "kind", "word"),
    [
        ({"policy": "nothing"}, PolicyError, "nothing"),
        ({"knobs": {"keep": -1}}, PolicyError, "keep"),
        ({"scope": 3}, RecipeError, "scope"),
        ({"scope": "("}, PolicyError, "("),
        ({"energy": "l3"}, PolicyError, "l3"),
        ({"sigma_min": "1"}, RecipeError, "sigma_min"),
        ({"sigma_min": math.nan}, PolicyError, "nan"),
        ({"manual": {"m": {-1: 1.0}}}, RecipeError, "-1"),
        ({"manual": {"m": {True: 1.0}}}, RecipeError, "True"),
        ({"manual": {"m": {"0": 1.0}}}, RecipeError, "'0'"),
        ({"manual": {"m": {0: -0.5}}}, RecipeError, "-0.5"),
        ({"manual": {"m": {0: math.inf}}}, RecipeError, "inf"),
        ({"other": 1}, RecipeError, "other"),
    ],
)
def test_what_a_record_cannot_hold_is_named(changes, kind, word):
    assert word in refusal(kind, parse_edit, {"policy": "rank", **changes})


def test_a_plan_makes_the_edit_of_its_parts():
    spectra = {NAME: spectrum(NAME, [4.0, 2.0, 1.0])}
    plan = EditPlan(Rank(keep=2), "all", "l2", 0.5, {NAME: {0: 0.25}})
    expected = make_edit(spectra, Rank(keep=2), scope="all", energy="l2", sigma_min=0.5, manual={NAME: {0: 0.25}})
    np.testing.assert_array_equal(plan.apply(spectra, None).sigma_after[NAME], expected.sigma_after[NAME])
    scaled = EditPlan(Scale(2.0), energy="none").apply(spectra, None)
    assert scaled.sigma_after[NAME].tolist() == [8.0, 4.0, 2.0]


def test_a_knob_without_an_end_is_recorded_in_words_that_json_has():
    plan = EditPlan(make_policy("clip", {"cap": float("inf")}))
    record = edit_record(plan)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert parse_edit(record) == plan
