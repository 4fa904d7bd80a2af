"""A sweep from a folder and recipes alone."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from surgery.errors import SurgeryError
from surgery.experiments.sweeps import expand, of_set, sweep_of_set
from surgery.policies import GradDirection
from surgery.recipes import dump_recipe
from tests.helpers.refusals import refusal


@pytest.fixture
def folder(place, tmp_path):
    for name in ("checkpoint-2", "checkpoint-10"):
        shutil.copytree(place.adapter, tmp_path / "run" / name)
    return tmp_path / "run"


def test_every_recipe_meets_every_member_on_the_recipes_own_rows_and_base(place, folder, tmp_path):
    files = []
    for name, policy in (("a", GradDirection()), ("b", GradDirection(eta_suppress=0.2))):
        files.append(str(tmp_path / f"{name}.yaml"))
        (tmp_path / f"{name}.yaml").write_text(dump_recipe(place.recipe(policy=policy)))
    sweep = sweep_of_set(folder, files, limit=3, examples=4)
    assert sweep.name == "run"
    assert [adapter.name for adapter in sweep.adapters] == ["run/checkpoint-2", "run/checkpoint-10"]
    assert {adapter.base for adapter in sweep.adapters} == {place.base}
    [task] = sweep.tasks
    # controls are no part of a sweep
    assert task.question == replace(place.evaluation, limit=3, random=0, scale=False, again=False)
    plan = expand(sweep)
    assert [group.passes for group in plan.groups] == [(replace(place.calibration, examples=4),)] * 2
    assert [list(group.edits) for group in plan.groups] == [["recipe a", "recipe b"]] * 2


def test_recipes_that_ask_nothing_or_not_the_same_are_refused(place, folder, tmp_path):
    def written(name, **changes):
        (tmp_path / name).write_text(dump_recipe(place.recipe(**changes)))
        return str(tmp_path / name)

    alone = written("alone.yaml", evaluation=None)
    assert "name no held-out rows" in refusal(SurgeryError, of_set.sweep_file, folder, [alone])
    two = [written("x.yaml"), written("y.yaml", evaluation=replace(place.evaluation, limit=2))]
    assert "name 2 held-out slices" in refusal(SurgeryError, of_set.sweep_file, folder, two)
    assert "2" in refusal(
        SurgeryError, sweep_of_set, folder, [two[0], written("z.yaml", base=replace(place.base, dtype="bfloat16"))]
    )


def test_a_set_that_ships_is_swept_by_its_name(place, tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(dump_recipe(place.recipe()))
    sweep = sweep_of_set("demo:kinship-training", [str(file)])
    assert [Path(each.source).name for each in sweep.adapters] == [f"checkpoint-{at}" for at in (4, 8, 16, 32, 64)]
    assert all(each.of_set for each in sweep.adapters)
