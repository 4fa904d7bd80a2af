"""The file of a sweep."""

import pytest
import yaml

from surgery.edits import LayerGroups
from surgery.errors import SurgeryError, SweepError
from surgery.experiments.sweeps import (
    check,
    edit_values,
    expand,
    parse_sweep,
    passes_of,
    read_sweep,
    variant_name,
)
from tests.helpers.refusals import refusal
from tests.surgery.experiments.sweeps.conftest import ROOT, record

DEMOS = ROOT / "assets" / "sweeps" / "demos.yaml"


def test_lists_of_knobs_are_an_axis_of_their_own(place):
    knobs = {"eta_suppress": [0.1, 1.0, 2.0], "eta_enhance": [0.2, 0.4], "power": 2}
    edits = [{"policies": [{"policy": "grad_direction", "knobs": knobs}, "abs_select"]}]
    sweep = parse_sweep(yaml.safe_dump(record(place, edits=edits)))
    assert len(sweep.edits) == 3 * 2 + 1
    assert {edit.plan.policy.power for edit in sweep.edits[:6]} == {2.0}
    assert len({variant_name(edit) for edit in sweep.edits}) == 7


def test_strengths_are_an_axis_whose_points_have_names_of_their_own(place):
    edits = [{"policies": ["power", "scale"], "energies": ["none", "functional"], "strengths": [0.5, 1, 1.5]}]
    sweep = parse_sweep(yaml.safe_dump(record(place, edits=edits)))
    assert [edit.plan.strength for edit in sweep.edits] == [0.5, 1.0, 1.5] * 4
    assert len({variant_name(edit) for edit in sweep.edits}) == 12
    # the name of a whole edit is the one it always had
    assert [variant_name(edit) for edit in sweep.edits[:2]] == [
        "power, residual, none, strength 0.5",
        "power, residual, none",
    ]


def test_layer_groups_are_an_axis_with_names_of_their_own(place):
    groups = [{}, {"family": {"q_proj": 0.5}}, {"third": [1, 1, 0.8]}]
    edits = [{"policies": ["power"], "energies": ["none"], "groups": groups}]
    sweep = parse_sweep(yaml.safe_dump(record(place, edits=edits)))
    assert [edit.plan.groups for edit in sweep.edits] == [
        LayerGroups(),
        LayerGroups({"q_proj": 0.5}),
        LayerGroups(third=(1, 1, 0.8)),
    ]
    assert [variant_name(edit) for edit in sweep.edits] == [
        "power, residual, none",
        "power, residual, none, q_proj ×0.5",
        "power, residual, none, last third ×0.8",
    ]
    assert [edit_values(edit)["groups"] for edit in sweep.edits] == ["", "q_proj ×0.5", "last third ×0.8"]


def test_the_committed_sweep_fills_the_tables_of_the_paper():
    sweep = read_sweep(DEMOS)
    plan = expand(sweep)
    assert len(plan.cells) == 2 * (5 * 3 * 4 + 1)
    assert sum(len(group.edits) for group in plan.groups) == 2 * (4 * 3 * 4 + 3 + 1)
    assert {(name, each.examples) for name, each in passes_of(plan.groups)} == {
        ("kinship", 256),
        ("arithmetic", 256),
    }
    check(plan)
    smaller = read_sweep(DEMOS, limit=3, examples=8)
    assert {task.limit for task in smaller.tasks} == {3}
    assert {edit.budget for edit in smaller.edits} == {8}
    assert len(expand(smaller).cells) == 2 * (5 * 3 + 1), "budgets that became equal are one"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sweep": 2}, "schema 1"),
        ({"sweep": True}, "schema 1"),
        ({"colour": 1}, "'colour'"),
        ({"edits": []}, "no list of edits"),
        ({"edits": [{"scopes": ["all"]}]}, "names no policies"),
        ({"edits": [{"policies": ["grad_direction"], "scope": ["all"]}]}, "edits[0] has no setting 'scope'"),
        ({"edits": [{"policies": "grad_direction"}]}, "edits[0].policies cannot be 'grad_direction'"),
        ({"edits": [{"policies": ["gradient"]}]}, "no policy called 'gradient'"),
        ({"edits": [{"policies": [{"policy": "scale", "knobs": {"eta": [1]}}]}]}, "no knob 'eta'"),
        ({"edits": [{"policies": [{"policy": "scale", "knobs": {"gamma": []}}]}]}, "no value of the knob 'gamma'"),
        ({"edits": [{"policies": ["scale"], "strengths": [2]}]}, "from 0 to 1.5"),
        ({"edits": [{"policies": ["scale"], "groups": [{"family": {"q": 3}}]}]}, "from 0 to 2"),
        ({"edits": [{"policies": ["scale"], "groups": [{"thirds": [1, 1, 1]}]}]}, "thirds"),
        ({"edits": [{"policies": ["scale"], "strengths": [10**400]}]}, "from 0 to 1.5"),
        ({"edits": [{"policies": ["scale"], "strengths": ["1"]}]}, "a list of whole numbers or numbers"),
        ({"edits": [{"policies": ["scale"], "budgets": [0]}]}, "edits[0].budgets cannot be 0"),
        ({"edits": [{"policies": ["scale"], "budgets": [True]}]}, "edits[0].budgets cannot be [True]"),
        ({"edits": [{"policies": ["scale"], "energies": ["l3"]}]}, "l3"),
        ({"edits": [{"policies": ["scale"], "scopes": ["("]}]}, "'('"),
        ({"edits": [{"policies": ["scale"], "seeds": list(range(400)), "budgets": list(range(1, 400))}]}, "edits"),
        ({"calibration": {"examples": 3}}, "list budgets under edits"),
        ({"calibration": {"colour": 3}}, "'colour'"),
        ({"adapters": {}}, "no adapters"),
        ({"adapters": {"x": {"base": {}}}}, "adapters.x has no source"),
        ({"adapters": {"x": {"source": "a", "tasks": ["other"]}}}, "'other'"),
        ({"adapters": {3: "a"}}, "the name 3"),
        ({"base": None}, "has no base model"),
        ({"tasks": {"x": {"limit": 3}}}, "names neither rows nor a task"),
        ({"tasks": {"x": {"data": "a", "random": 3}}}, "'random'"),
        ({"tasks": {"x": {"task": "gsm8k", "limits": 3}}}, "'limits'"),
        ({"tasks": {"x": {"task": "gsm8k", "limit": "3"}}}, "limit"),
        ({"tasks": {"x": {"task": "humaneval", "run_programs": 1}}}, "tasks.x.run_programs cannot be 1"),
        ({"tasks": {"x": {"task": "gsm8k", "base_arm": "yes"}}}, "tasks.x.base_arm cannot be 'yes'"),
        ({"tasks": {"x": {"task": "gsm8k", "near_duplicates": True}}}, "tasks.x.near_duplicates cannot be True"),
        ({"resources": {"gpus": 0.5}}, "resources.gpus cannot be 0.5"),
        ({"resources": {"cpus": 0}}, "resources.cpus cannot be 0"),
        ({"resources": {"memory_gib": float("inf")}}, "resources.memory_gib cannot be inf"),
        ({"resources": {"gpu_memory_gib": True}}, "resources.gpu_memory_gib cannot be True"),
        ({"variants_at_once": 0}, "variants_at_once cannot be 0"),
    ],
)
def test_what_a_sweep_cannot_hold_is_named(place, changes, said):
    text = yaml.safe_dump(record(place, **changes))
    assert said in refusal(SurgeryError, parse_sweep, text)


@pytest.mark.parametrize(
    "text", ["", "[1]", "sweep: 1\nsweep: 1", "a: &x 1\nb: *x", "!!python/object:os.x {}", "{"]
)
def test_what_is_no_plain_yaml_is_refused(text):
    refusal(SweepError, parse_sweep, text)
