"""Whose control a variant is, in a run's record, and runs of earlier versions whose controls were another edit's."""

from dataclasses import asdict, replace

import pytest

from surgery.edits import EditPlan, edit_record
from surgery.runs import ControlGroup, RunPlan, control_notes, parse_controls, unlike_note

GROUP = ControlGroup(("random 0", "random 1"), "all", "none", 0.5, "random gates", 0.25, "scale, same norm")
PLAN = RunPlan(
    adapter="a",
    adapter_digest="b",
    base={},
    fingerprint="c",
    question={},
    asked="d",
    examples=3,
    variants={"unedited": "", "x": "1", "random 0": "2"},
    edits={"x": edit_record(EditPlan())},
    settings={},
)


def test_groups_read_back_from_their_record():
    record = asdict(GROUP)
    assert parse_controls({"x": {**record, "random": list(record["random"])}}) == {"x": GROUP}
    with pytest.raises(TypeError):
        parse_controls({"x": {**record, "unknown": 1}})


def test_a_note_says_whose_the_controls_are_how_they_were_drawn_and_how_far_they_move():
    (note,) = control_notes({"x": GROUP, "scaled alone": replace(GROUP, random=())})
    assert note == (
        "random 0 to random 1: the random controls of 'x', random gates in scope all under energy rule none, "
        "σ′ from 0.5; ‖σ′ − σ‖ is 0.25 of the edit's"
    )
    (note,) = control_notes({"": ControlGroup(("random 0",), "residual", "l1", 0.0, "random gates")})
    assert note == "random 0: of no edit, random gates in scope residual under energy rule l1"


def test_controls_do_not_change_the_name_of_a_run():
    assert replace(PLAN, controls={"x": GROUP}).key == PLAN.key


@pytest.mark.parametrize(
    ("edits", "unlike"),
    [
        ({"x": EditPlan()}, ()),
        ({"x": EditPlan(energy="none")}, ("x",)),
        ({"x": EditPlan(scope="all"), "y": EditPlan()}, ("x",)),
        ({"x": EditPlan(sigma_min=0.1)}, ("x",)),
        # the controls of a proof were those of its edit
        ({"edit": EditPlan(scope="all", energy="none")}, ()),
        ({"edit": EditPlan(scope="all", energy="none"), "y": EditPlan()}, ("y",)),
    ],
)
def test_controls_of_an_earlier_version_are_marked_where_they_were_of_another_scope_or_rule(edits, unlike):
    earlier = replace(PLAN, edits={name: edit_record(plan) for name, plan in edits.items()})
    assert earlier.unlike_controls == unlike
    assert replace(earlier, controls=dict.fromkeys(edits, GROUP)).unlike_controls == ()
    assert replace(earlier, variants={"unedited": "", "x": "1"}).unlike_controls == ()


def test_what_is_told_of_them_names_the_edits_and_the_way_out():
    assert "'x', 'y'" in unlike_note(["x", "y"])
    assert "Prove it again" in unlike_note(["x"])
