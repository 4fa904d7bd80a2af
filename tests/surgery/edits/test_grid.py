"""Steps of knobs: whole, inside their range, and no others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.edits import EditPlan, grid_of, searchable, with_knobs
from surgery.errors import PolicyError
from surgery.policies import POLICIES, AbsSelect, GradDirection, Identity, RandomIndex, Rank, knobs_of
from tests.helpers.policies import spectrum
from tests.helpers.refusals import refusal

SPECTRA = {
    "model.layers.0.self_attn.o_proj": spectrum("model.layers.0.self_attn.o_proj", [3.0, 2.0, 1.0]),
    "model.layers.0.mlp.down_proj": spectrum("model.layers.0.mlp.down_proj", [5.0, 4.0, 3.0, 2.0, 1.0]),
    "model.layers.0.self_attn.q_proj": spectrum("model.layers.0.self_attn.q_proj", [1.0] * 9),
}
SLIDING = [knob for policy in POLICIES.values() for knob in knobs_of(policy) if knob.slides]


@pytest.mark.parametrize("knob", SLIDING, ids=lambda knob: knob.name)
def test_a_grid_begins_and_ends_with_its_knob_and_no_value_has_rounding_noise(knob):
    grid = grid_of(knob)
    values = [grid.value(step) for step in range(grid.last + 1)]
    assert values[0] == knob.low
    assert knob.high - knob.step < values[-1] <= knob.high
    np.testing.assert_allclose(np.diff(values), knob.step)
    assert all(value == round(value, 9) for value in values)


@given(st.sampled_from(SLIDING), st.floats(-10, 1000))
def test_the_nearest_step_is_nearer_than_every_other(knob, value):
    grid = grid_of(knob)
    off = [abs(grid.value(step) - value) for step in range(grid.last + 1)]
    assert off[grid.nearest(value)] <= min(off) + 1e-9


def test_a_lower_end_cuts_the_grid_and_never_below_its_first_value():
    (keep,) = [knob for knob in knobs_of(Rank) if knob.name == "keep"]
    assert grid_of(keep, 3).value(grid_of(keep, 3).last) == 3
    assert grid_of(keep, -5).last == 0


def test_a_search_counts_components_up_to_the_largest_rank_of_the_scope():
    (grid,) = searchable(EditPlan(Rank()), ["keep"], SPECTRA)
    assert grid.value(grid.last) == 5  # not the 9 outside the scope


def test_a_search_takes_what_slides_and_does_something():
    assert "seed" not in {grid.knob.name for grid in searchable(EditPlan(RandomIndex()), None, SPECTRA)}
    names = {grid.knob.name for grid in searchable(EditPlan(GradDirection()), None, SPECTRA)}
    assert "eta_suppress" in names
    for plan, asked in (
        (EditPlan(Identity()), None),
        (EditPlan(AbsSelect()), ["norm"]),
        (EditPlan(), ["nothing"]),
    ):
        refusal(PolicyError, searchable, plan, asked, SPECTRA)


def test_other_knobs_leave_everything_else_of_the_plan():
    plan = EditPlan(AbsSelect(amp=1.5), scope="all", energy="l2", manual={"m": {0: 2.0}})
    changed = with_knobs(plan, {"sup": 0.25})
    assert changed == EditPlan(AbsSelect(amp=1.5, sup=0.25), scope="all", energy="l2", manual={"m": {0: 2.0}})
    refusal(PolicyError, with_knobs, plan, {"sup": -1})
