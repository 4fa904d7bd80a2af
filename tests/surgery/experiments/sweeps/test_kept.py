"""Sweeps that were begun: a file each, read back as it was written, and nothing else taken for one."""

from dataclasses import replace

import yaml

from surgery.experiments.sweeps import Refused, expand, kept, kept_sweeps, parse_sweep
from surgery.policies import GradDirection
from surgery.recipes import dump_recipe
from tests.helpers.limited_system import files_of_at_most
from tests.surgery.experiments.sweeps.conftest import record


def test_a_sweep_is_found_as_it_was_begun_and_damaged_files_are_none(place, tmp_path):
    file = tmp_path / "gentle.yaml"
    manual = {"model.layers.0.self_attn.o_proj": {0: 0.5}}
    file.write_text(dump_recipe(place.recipe(policy=GradDirection(), manual=manual)))
    edits = [{"recipe": str(file)}, {"policies": ["random_index"], "budgets": [4, 10]}]
    sweep = parse_sweep(yaml.safe_dump(record(place, edits=edits)), name="mine")
    plan = expand(sweep)
    assert not kept_sweeps()
    kept.keep_sweep(plan, [f"{n:024x}" for n in range(len(plan.groups))])
    [found] = kept_sweeps()
    assert (found.name, found.adapters, found.refused) == ("mine", ("tiny",), ())
    assert [(cell.adapter, cell.task, cell.variant) for cell in found.cells] == [
        (cell.adapter, cell.task, cell.variant) for cell in plan.cells
    ]
    assert [cell.edit.plan for cell in found.cells] == [cell.edit.plan for cell in plan.cells]
    assert [cell.edit.budget for cell in found.cells] == [10, 4, 10]
    assert found.answered == ()
    [written] = (place.home / "sweeps" / "whole").glob("*.json")
    whole = written.read_text()
    for damaged in ("", "[]", "{}", "[" * 100_000, whole[:-1], whole.replace('"grad_direction"', '"none such"')):
        written.write_text(damaged)
        assert not kept_sweeps()


def test_the_same_sweep_is_one_entry_and_a_full_disk_costs_no_more_than_that(place):
    plan = expand(parse_sweep(yaml.safe_dump(record(place)), name="x"))
    keys = ["0" * 24] * len(plan.groups)
    with files_of_at_most(20):
        kept.keep_sweep(plan, keys)
    assert not kept_sweeps()
    kept.keep_sweep(plan, keys)
    kept.keep_sweep(plan, keys)
    assert len(kept_sweeps()) == 1
    told = replace(plan, sweep=replace(plan.sweep, refused=(Refused("run/torn", "torn"),)))
    kept.keep_sweep(told, keys)
    assert sorted(len(sweep.refused) for sweep in kept_sweeps()) == [0, 1]
