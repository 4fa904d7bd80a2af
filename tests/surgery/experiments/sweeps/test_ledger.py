"""What a finished sweep is found again by."""

import pytest
import yaml

from surgery.experiments.sweeps import (
    cost,
    expand,
    finished,
    parse_sweep,
)
from tests.helpers.workplace import write_rows
from tests.surgery.experiments.sweeps.conftest import numbers, record, same_numbers, swept_from


def test_a_finished_sweep_starts_no_model_again(place, monkeypatch):
    first = swept_from(place)
    monkeypatch.setattr("surgery.model.base.load_base", lambda *a, **o: pytest.fail("a model was loaded"))
    again = swept_from(place)
    same_numbers(numbers(first), numbers(again))
    plan = expand(parse_sweep(yaml.safe_dump(record(place))))
    known = [g for g, run in zip(plan.groups, finished(plan.groups), strict=True) if run is not None]
    assert (cost(plan, known).groups, cost(plan, known).finished_groups, cost(plan, known).requests) == (0, 3, 0)


def test_rows_that_changed_under_the_same_name_are_asked_anew(place, tmp_path):
    from tests.helpers.workplace import ROWS

    file = tmp_path / "rows.jsonl"
    write_rows(file, ROWS[30:34])
    tasks = {"sums": {"data": str(file)}}
    before = swept_from(place, tasks=tasks)
    write_rows(file, ROWS[34:38])
    after = swept_from(place, tasks=tasks)
    assert {run.plan.key for _, run in before.runs}.isdisjoint(run.plan.key for _, run in after.runs)
