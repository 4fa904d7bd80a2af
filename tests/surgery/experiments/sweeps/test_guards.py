"""Guards of a sweep: answered for every variant beside each task, found again, and told as gains."""

import csv

import numpy as np
import pytest
import yaml

from surgery.data import EvaluationPlan, TextPlan
from surgery.errors import DataError, RecipeError, SweepError
from surgery.evaluation import BASELINE, CROSS_ENTROPY, KL_UNEDITED
from surgery.experiments.sweeps import (
    check,
    cost,
    cost_text,
    expand,
    finished,
    guard_rows,
    guarded_cells,
    guards_text,
    in_process,
    parse_sweep,
    run_sweep,
    write_guards,
)
from surgery.runs import group_of, stored_runs
from tests.helpers.refusals import refusal
from tests.surgery.experiments.sweeps.conftest import record, swept_from


def guards_of(place, text_plan):
    text = {"text": text_plan.text, "limit": 3, "window": 24, "stride": 12}
    return [text, {"rows": place.evaluation.data, "start": 6, "limit": 3, "separator": True}]


def plan_of(place, **changes):
    return expand(parse_sweep(yaml.safe_dump(record(place, **changes))))


@pytest.fixture
def swept(place, text_plan):
    edits = [{"policies": ["grad_direction", "random_index"], "scopes": ["all"], "budgets": [4]}]
    return swept_from(place, guards=guards_of(place, text_plan), edits=edits, variants_at_once=1)


def test_every_pass_has_a_group_with_a_run_for_each_guard(swept, engine_calls):
    assert not swept.failed
    assert len(swept.runs) == len(swept.guards) == 2
    for (group, run), (text, rows) in zip(swept.runs, swept.guards, strict=True):
        assert text.evaluation.metrics == (CROSS_ENTROPY, KL_UNEDITED)
        assert set(group.edits) < set(run.plan.variants)
        assert {tuple(each.plan.variants.items()) for each in (run, text, rows)} == {
            tuple(run.plan.variants.items())
        }
        assert group_of(run.plan.key).runs == (run, text, rows)
    engine_calls.clear()
    again = run_sweep(swept.plan, in_process)
    assert (again.runs, again.guards) == (swept.runs, swept.guards)
    assert engine_calls == []


def test_gains_are_those_of_the_runs_and_stand_in_the_table(swept, tmp_path):
    found = guarded_cells(swept)
    rows = guard_rows(found)
    for (group, run), guards in zip(swept.runs, swept.guards, strict=True):
        (variant,) = group.edits
        for each in (run, *guards):
            metric = each.evaluation.metrics[0]
            (row,) = (
                row
                for row in rows
                if row["variant"] == variant
                and row["question"] == each.plan.slice_name
                and row["measure"] == metric.title
                and row["guard"] == (each is not run)
            )
            change = each.evaluation.numbers(variant, metric.name) - each.evaluation.numbers(BASELINE, metric.name)
            sign = (1 if metric.higher_is_better else -1) * (100 if metric.binary else 1)
            np.testing.assert_allclose(row["gain"], sign * change.mean(), rtol=1e-12, atol=1e-15)
            assert row["low"] <= row["gain"] <= row["high"]
    by_metric = {metric.title: metric for _, run in swept.runs for metric in run.evaluation.metrics}
    (_, run) = swept.runs[0]
    for row in (row for row in rows if not row["guard"] and row["variant"] in swept.runs[0][0].edits):
        metric = by_metric[row["measure"]]
        unedited = run.evaluation.numbers(BASELINE, metric.name).mean()
        assert row["unedited"] == pytest.approx((100 if metric.binary else 1) * unedited)
        assert (row["unit"] == "points") == metric.binary
    assert any(by_metric[row["measure"]].binary for row in rows if not row["guard"])
    (file,) = write_guards(found, tmp_path / "tables")
    with file.open() as opened:
        written = list(csv.DictReader(opened))
    assert [float(row["gain"]) for row in written] == [row["gain"] for row in rows]
    text = guards_text(found)
    assert text.count("tiny on sums, own task against guards") == 2
    assert "guard " in text
    assert write_guards((), tmp_path / "none") == []
    assert guards_text(()) == ""


def test_a_guard_that_is_gone_is_asked_again_and_nothing_else(swept, engine_calls, place):
    gone = swept.guards[0][0]
    for file in gone.folder.iterdir():
        file.unlink()
    assert [run is None for run in finished(swept.plan.groups)] == [True, False]
    assert cost(swept.plan, [swept.plan.groups[1]]).guards == 2
    engine_calls.clear()
    again = run_sweep(swept.plan, in_process)
    assert again.guards[0][0].evaluation.scores.keys() == gone.plan.variants.keys()
    assert sum(call.requests for call in engine_calls) == gone.plan.examples
    assert len(stored_runs()) == 6


def test_an_adapters_own_guards_replace_those_of_the_sweep(place, text_plan):
    own = {"source": place.adapter, "guards": [{"task": "arc_easy", "limit": 3}]}
    guards = guards_of(place, text_plan)
    plan = plan_of(place, adapters={"a": place.adapter, "b": own}, guards=guards)
    first, second = plan.sweep.adapters
    assert first.guards[0] == TextPlan(text_plan.text, 3, 24, 12)
    assert isinstance(first.guards[1], EvaluationPlan)
    assert [guard.name for guard in second.guards] == ["arc_easy"]
    assert "runs of guards beside them" in cost_text(cost(plan))
    assert plan_of(place).sweep.adapters[0].guards == ()


def test_a_text_can_be_a_task_of_its_own(place, text_plan):
    tasks = {"text": {"text": text_plan.text, "window": 24, "stride": 12, "base_arm": True}}
    edits = [{"policies": ["random_index"], "scopes": ["all"]}]
    swept = swept_from(place, tasks=tasks, edits=edits)
    ((_, run),) = swept.runs
    assert run.plan.slice_name == text_plan.text
    assert {"kl", "kl_base"} < {metric.name for metric in run.evaluation.metrics}
    assert swept_from(place, tasks=tasks, edits=edits).runs == swept.runs


def test_guards_that_cannot_be_asked_are_refused_before_a_model_is_loaded(place):
    seen = plan_of(place, guards=[{"rows": place.calibration.data}])
    assert "were used for calibration" in refusal(DataError, check, seen)
    assert "no file at" in refusal(DataError, check, plan_of(place, guards=[{"text": "none.txt"}]))
    assert "adapters.tiny.guards[0]" in refusal(RecipeError, plan_of, place, guards=["demo:text"])
    assert "nor a text" in refusal(SweepError, plan_of, place, tasks={"a": {"limit": 3}})
