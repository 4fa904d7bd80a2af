"""Grids as passes and cells."""

import yaml

from surgery.errors import DataError, PolicyError, SurgeryError
from surgery.experiments.sweeps import (
    check,
    cost,
    expand,
    parse_sweep,
)
from tests.helpers.refusals import refusal
from tests.surgery.experiments.sweeps.conftest import record


def test_a_grid_is_the_product_of_its_lists_and_a_sweep_the_union_of_its_grids(place):
    edits = [
        {"policies": ["grad_direction", "random_index"], "scopes": ["residual", "all"], "budgets": [4, 10]},
        {"policies": ["grad_direction"], "energies": ["l1", "none"], "budgets": [10]},
    ]
    plan = expand(parse_sweep(yaml.safe_dump(record(place, edits=edits))))
    # eight of the first grid; the second adds one, for its l1 edit is in the first already
    assert len(plan.cells) == 9
    # a budget does nothing to random_index: its four cells are two variants
    assert sum(len(group.edits) for group in plan.groups) == 4 + 1 + 2
    assert [len(group.edits) for group in plan.groups] == [1, 2, 2, 2]


def test_every_adapter_meets_the_tasks_that_it_names_and_all_where_it_names_none(place):
    adapters = {"one": place.adapter, "two": {"source": place.adapter, "tasks": ["second"]}}
    tasks = {name: {"data": place.evaluation.data, "limit": n} for name, n in (("first", 2), ("second", 3))}
    plan = expand(parse_sweep(yaml.safe_dump(record(place, adapters=adapters, tasks=tasks))))
    pairs = dict.fromkeys((cell.adapter, cell.task) for cell in plan.cells)
    assert list(pairs) == [("one", "first"), ("one", "second"), ("two", "second")]
    assert cost(plan).cells == 3 * 8


def test_what_can_be_told_without_a_model_is_refused_before_one_is_loaded(place, tmp_path):
    def checked(**changes):
        check(expand(parse_sweep(yaml.safe_dump(record(place, base={"location": "/nowhere"}, **changes)))))

    shared = {"sums": {"data": place.calibration.data}}
    assert "used for calibration" in refusal(DataError, checked, tasks=shared)
    many = [{"policies": ["grad_direction"], "budgets": [31]}]
    assert "31 rows" in refusal(DataError, checked, edits=many)
    nothing = [{"policies": ["grad_direction"], "scopes": ["no_such_module"], "budgets": [4]}]
    assert "matches no module" in refusal(PolicyError, checked, edits=nothing)
    refusal(SurgeryError, checked, adapters={"gone": str(tmp_path / "gone")})
