"""What a search varies."""

from dataclasses import replace

import pytest

from surgery.edits import EditPlan, LayerGroups
from surgery.errors import PolicyError
from surgery.experiments.search import SearchSpace, room_of
from surgery.policies import AbsSelect, GradDirection, Identity, RandomIndex, Rank
from tests.helpers.refusals import refusal
from tests.surgery.experiments.conftest import PLAN


def room(shop, plan=PLAN, knobs=None, parts=()):
    return room_of(plan, SearchSpace(knobs, parts), shop.spectra, shop.sensitivity)


def test_every_dimension_starts_where_the_plan_stands_and_leads_back_to_it(shop):
    plan = replace(PLAN, strength=0.7)
    found = room(shop, plan, parts=("strength", "scope", "energy"))
    assert found.plan_at(found.values(lambda each: each.start)) == plan
    names = [each.name for each in found.dimensions]
    assert names[-3:] == ["edit.strength", "edit.scope", "edit.energy"]


def test_parts_of_the_edit_are_varied_and_the_rest_stays(shop):
    found = room(shop, knobs=(), parts=("strength", "scope", "energy"))
    turned = found.plan_at({"edit.strength": 7, "edit.scope": "all", "edit.energy": "l2"})
    assert turned == replace(PLAN, strength=0.35, scope="all", energy="l2")


def test_scopes_that_select_the_same_modules_are_offered_once_and_hold_what_is_set_by_hand(shop):
    whole = room(shop, replace(PLAN, scope="."), (), ("scope",)).dimensions[0].choices
    assert whole == (".", "residual", "attention-inputs", "gate-up"), "'all' is the same as the plan's own"
    name = "model.layers.0.mlp.up_proj"
    held = replace(PLAN, scope="gate-up", manual={name: {0: 0.5}})
    assert room(shop, held, (), ("scope",)).dimensions[0].choices == ("gate-up", "all")


def test_gains_of_layer_groups_are_varied_over_what_the_plan_has(shop):
    plan = replace(
        PLAN, scope="all", groups=LayerGroups({"q_proj": 0.5}, (1.0, 1.5, 1.0), {"o_proj": (1.0, 1.0, 0.25)})
    )
    for part, names in (
        ("families", {f"family: {spectrum.family}" for spectrum in shop.spectra.values()}),
        ("thirds", {"third: first", "third: middle", "third: last"}),
    ):
        found = room(shop, plan, (), (part,))
        assert {each.name for each in found.dimensions} == names
        assert found.plan_at(found.start) == plan
    both = room(shop, plan, (), ("families-thirds",))
    assert len(both.dimensions) == 3 * len({spectrum.family for spectrum in shop.spectra.values()})
    assert both.plan_at(both.start) == plan
    turned = both.plan_at({**both.start, "o_proj in the third: first": 10, "v_proj in the third: last": 0})
    assert turned.groups.both == {"o_proj": (0.5, 1.0, 0.25), "v_proj": (1.0, 1.0, 0.0)}
    assert turned.groups.family == {"q_proj": 0.5}


def test_groups_outside_the_scope_are_not_varied(shop):
    found = room(shop, replace(PLAN, scope="gate-up"), (), ("families",))
    assert [each.name for each in found.dimensions] == ["family: gate_proj", "family: up_proj"]
    assert len(room(shop, replace(PLAN, scope="gate-up"), (), ("scope", "families")).dimensions) > 3


def test_no_rule_is_offered_that_nothing_was_measured_for(shop):
    rules = room(shop, parts=("energy",)).dimensions[-1].choices
    assert "functional" in rules
    without = room_of(PLAN, SearchSpace(None, ("energy",)), shop.spectra, None).dimensions[-1].choices
    assert without == ("l1", "l2", "none")


def test_knobs_that_do_nothing_beside_those_before_are_not_asked_for(shop):
    found = room(shop)
    asked = found.values(lambda each: 0 if each.name == "asymmetric" else each.start)
    assert "eta" in asked
    assert "eta_suppress" not in asked
    assert found.plan_at(asked).policy == replace(PLAN.policy, asymmetric=False)


def test_a_count_of_components_ends_at_the_largest_rank_that_a_scope_may_have(shop):
    grid = room(shop, EditPlan(Rank()), parts=("scope",)).dimensions[0].grid
    assert grid.value(grid.last) == 4
    found = room(shop, EditPlan(AbsSelect()))
    assert all(each.grid.last > 0 for each in found.dimensions)


def test_a_policy_without_knobs_can_be_turned_up_and_down(shop):
    assert [each.name for each in room(shop, EditPlan(Identity()), parts=("strength",)).dimensions] == [
        "edit.strength"
    ]


@pytest.mark.parametrize(
    ("plan", "knobs", "parts", "word"),
    [
        (EditPlan(Identity()), None, (), "another policy"),
        (PLAN, (), (), "choose knobs"),
        (PLAN, ("keep",), (), "keep"),
        (PLAN, ("eta",), (), "asymmetric"),
        (EditPlan(Rank()), ("by",), (), "choose from keep"),
        (EditPlan(RandomIndex()), ("seed",), ("strength",), "seed"),
        (EditPlan(GradDirection(), scope="nothing like it"), None, ("scope",), "scope"),
        (PLAN, None, ("speed",), "speed"),
    ],
)
def test_what_cannot_be_varied_is_refused(shop, plan, knobs, parts, word):
    assert word in refusal(PolicyError, room, shop, plan, knobs, parts)
