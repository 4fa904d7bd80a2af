"""Sweeps over the workplace."""

from pathlib import Path

import numpy as np
import yaml

from surgery.evaluation import BASELINE
from surgery.experiments.sweeps import (
    check,
    expand,
    in_process,
    parse_sweep,
    run_sweep,
)
from tests.helpers.models import tiny_llama
from tests.helpers.rounding import assert_losses

ROOT = Path(__file__).resolve().parents[4]


def record(place, **changes) -> dict:
    """A small sweep over the workplace's adapter: six edits, four of which a calibration pass serves."""
    whole = {
        "sweep": 1,
        "base": {"location": place.base.location},
        "calibration": {"data": place.calibration.data, "batch_size": 4, "separator": True},
        "adapters": {"tiny": place.adapter},
        "tasks": {"sums": {"data": place.evaluation.data, "limit": 4, "separator": True}},
        "edits": [
            {"policies": ["grad_direction", "random_index"], "scopes": ["residual", "all"], "budgets": [4, 10]},
        ],
        "variants_at_once": 2,
        "attempts": 2,
    }
    return {**whole, **changes}


def swept_from(place, runner=in_process, **changes):
    plan = expand(parse_sweep(yaml.safe_dump(record(place, **changes))))
    check(plan)
    return run_sweep(plan, runner)


def numbers(swept) -> dict:
    """Every per-example loss and answer, by variant and from the files of the runs."""
    found = {}
    for group, run in swept.runs:
        for name in [BASELINE, *group.edits]:
            scores = run.evaluation.scores[name]
            found[group.adapter.name, group.task.name, name] = (scores.loss, scores.exact, scores.answers)
    return found


def same_numbers(first, second) -> None:
    """Batches that are packed otherwise may round otherwise, and no more."""
    assert first.keys() == second.keys()
    for name, (loss, exact, answers) in first.items():
        assert_losses(loss, second[name][0], tiny_llama())
        np.testing.assert_array_equal(exact, second[name][1])
        assert answers == second[name][2]
