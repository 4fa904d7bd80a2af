"""Recipes as edits of a sweep: what they bring along, and where they do not fit."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan
from surgery.errors import SurgeryError
from surgery.experiments.sweeps import (
    attached,
    check,
    expand,
    ledger,
    parse_sweep,
    results,
    swept_edit,
    variant_name,
)
from surgery.policies import GradDirection
from surgery.recipes import dump_recipe
from surgery.sensitivity import calibrate
from tests.helpers.refusals import refusal
from tests.surgery.experiments.sweeps.conftest import numbers, record, swept_from

GENTLE = GradDirection(eta_suppress=0.2)


@pytest.fixture
def written(place, tmp_path):
    """Writes a recipe of the place; its settings by name."""

    def write(name="gentle.yaml", **changes):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dump_recipe(place.recipe(**changes)))
        return str(file)

    return write


def test_a_recipe_is_redone_on_an_adapter_from_its_own_sensitivities_and_the_recipes_rows(place, written):
    file = written(policy=GENTLE, scope="all", energy="none", strength=0.5)
    bare = {"base": None, "calibration": None}
    swept = swept_from(place, edits=[{"recipe": file}], adapters={"one": {"source": place.adapter}}, **bare)
    [(group, run)] = swept.runs
    assert group.passes == (place.calibration,)
    assert group.adapter.base == place.base
    assert list(group.edits) == ["recipe gentle"]
    with place.attach() as live:
        plan = place.recipe(policy=GENTLE, scope="all", energy="none", strength=0.5).edit
        own = plan.apply(live.spectra, calibrate(live, place.calibration)).sigma_after
        found = attached.group_edits(live, group, {place.calibration: calibrate(live, place.calibration)})
    for module, sigma in own.items():
        np.testing.assert_array_equal(found["recipe gentle"].sigma_after[module], sigma)
    assert np.isfinite(numbers(swept)["one", "sums", "recipe gentle"][0]).all()
    assert run.plan.edits["recipe gentle"]["strength"] == 0.5
    assert results(swept)[0].cell.edit.label == "gentle"


def test_rows_that_the_sweep_names_stand_in_place_of_the_recipes(place, written):
    other = replace(place.calibration, examples=4, seed=3)
    file = written(policy=GENTLE, calibration=replace(other, data="/nowhere"))
    plan = expand(parse_sweep(yaml.safe_dump(record(place, edits=[{"recipe": file}]))))
    [group] = plan.groups
    assert [(each.data, each.examples, each.seed) for each in group.passes] == [(place.calibration.data, 4, 3)]
    check(plan)


def test_rows_that_a_recipe_was_chosen_on_may_not_be_asked(place, written):
    file = written(policy=GENTLE, tuning=CalibrationPlan(place.evaluation.data, examples=4))
    plan = expand(parse_sweep(yaml.safe_dump(record(place, edits=[{"recipe": file}]))))
    assert "used for" in refusal(SurgeryError, check, plan)


def test_gains_by_hand_need_the_module_and_the_component_that_they_name(place, written):
    modules = open_adapter(place.adapter).modules
    name = next(iter(modules))
    edit = {"scope": "all", "policy": GENTLE}

    def checked(manual):
        file = written("by-hand.yaml", manual=manual, **edit)
        plan = expand(parse_sweep(yaml.safe_dump(record(place, edits=[{"recipe": file}]))))
        check(plan)
        return plan

    assert checked({name: {0: 0.0}}).groups
    said = refusal(SurgeryError, checked, {"model.layers.99.q_proj": {0: 0.0}})
    assert "by-hand" in said
    assert "no such module" in said
    assert f"has rank {modules[name].rank}" in refusal(SurgeryError, checked, {name: {99: 0.0}})


def test_a_recipe_is_called_by_its_file_or_by_the_folder_of_a_recipe_yaml(place, written):
    files = [written("a.yaml"), written("tamed/recipe.yaml"), written("b.recipe.yaml")]
    edits = [{"recipe": file} for file in files]
    sweep = parse_sweep(yaml.safe_dump(record(place, edits=edits)))
    assert [variant_name(edit) for edit in sweep.edits] == ["recipe a", "recipe tamed", "recipe b"]


def test_a_recipe_that_no_sweep_can_redo_is_refused_with_a_way_out(place, written):
    def parsed(*edits):
        return parse_sweep(yaml.safe_dump(record(place, edits=list(edits))))

    many = written("steps.yaml", steps=3, tuning=CalibrationPlan(place.evaluation.data))
    assert "takes up to 3 steps" in refusal(SurgeryError, parsed, {"recipe": many})
    spared = written("spared.yaml", protect=True, protected=(place.calibration,))
    assert "protected" in refusal(SurgeryError, parsed, {"recipe": spared})
    assert "two recipes are called 'one'" in refusal(
        SurgeryError, parsed, {"recipe": written("one.yaml")}, {"recipe": written("x/one.yaml")}
    )
    assert "no setting 'scopes'" in refusal(SurgeryError, parsed, {"recipe": many, "scopes": ["all"]})
    refusal(SurgeryError, parsed, {"recipe": 3})
    refusal(SurgeryError, parsed, {"recipe": "/nowhere.yaml"})
    assert swept_edit.recipe_name("recipe.yaml")


def test_recipes_that_read_other_slices_than_before_are_another_question(place, written, tmp_path):
    other = replace(place.calibration, start=place.calibration.examples)
    plans = [(place.calibration, other, each) for each in (place.calibration, other)]
    keys = []
    for slices in plans:
        files = [
            written(f"r{i}.yaml", policy=replace(GENTLE, eta_suppress=0.1 * (i + 1)), calibration=slice_)
            for i, slice_ in enumerate(slices)
        ]
        edits = [{"recipe": file} for file in files]
        asked = record(place, edits=edits, adapters={"one": {"source": place.adapter}}, variants_at_once=12)
        plan = expand(parse_sweep(yaml.safe_dump({k: v for k, v in asked.items() if k != "calibration"})))
        (group,) = plan.groups
        assert set(group.passes) == {place.calibration, other}
        keys.append(ledger.group_keys(plan.groups))
    assert keys[0] != keys[1]
