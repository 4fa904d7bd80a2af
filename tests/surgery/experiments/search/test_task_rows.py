"""A task of lm-eval that judges edits: scored as its benchmark scores it, kept, and barred from the proof."""

from dataclasses import replace

import numpy as np
import pytest

from surgery.data import CalibrationPlan, Row, TaskPlan
from surgery.edits import EditPlan
from surgery.errors import DataError, PolicyError
from surgery.evaluation import BASELINE
from surgery.evaluation.lm_eval import benchmark, load_task
from surgery.experiments import Proof, TuningSetup, prove
from surgery.experiments.search import (
    Judges,
    SearchLimits,
    SearchPlan,
    SearchSpace,
    objectives_named,
    parse_search,
    search,
    search_record,
    task_rows,
)
from surgery.policies import Scale
from surgery.runs import AnswerLog
from surgery.sensitivity import calibration_slice
from tests.helpers.own_tasks import own_tasks
from tests.helpers.refusals import refusal

START = EditPlan(Scale(4.0), scope="all", energy="none")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(own_tasks(tmp_path_factory.mktemp("tasks"), colours=24, numbers=2))


@pytest.fixture
def task(folder):
    return TaskPlan("colours", 16, offset=1, include_path=folder)


def plan_of(place, task, objectives=("task", "parameters")):
    tuning = CalibrationPlan(place.evaluation.data, 4)
    return SearchPlan(START, tuning, objectives, SearchSpace((), ("strength",)), task=task)


def test_parts_of_a_task_together_are_its_benchmark(live, place, task, tmp_path):
    edit = START.apply(live.spectra, None)
    documents = task_rows(live, task, {})
    slices = {"own": calibration_slice(live, CalibrationPlan(place.evaluation.data, 10))}
    with AnswerLog(tmp_path / "log") as log:
        judges = Judges(live, slices, objectives_named(["loss", "task"]), log, task=documents)
        assert judges.rows == 16
        parts = [judges.changes(edit.sigma_after, part)["task"] for part in (range(3), range(3, 4), range(4, 16))]
    whole = benchmark(live, load_task(task), {"edit": edit})
    headline = whole.metrics[0].name
    expected = whole.numbers("edit", headline) - whole.numbers(BASELINE, headline)
    assert np.abs(expected).max() > 0, "an edit that changes no answer shows nothing"
    np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_a_search_by_a_task_goes_on_and_bars_its_documents_from_the_proof(live, place, task, engine_calls):
    plan = plan_of(place, task)
    setup = TuningSetup(live, calibration_slice(live, plan.tuning), None)

    def tried(trials):
        return search(setup, plan, task=task_rows(live, task, {}), limits=SearchLimits(trials))

    first = tried(1)
    assert first.rows == {"own": 4, "task": 16}
    assert first.trials[0].effects["task"].mean != 0
    engine_calls.clear()
    assert tried(1).trials == first.trials
    assert engine_calls == []
    assert parse_search(search_record(plan)) == plan
    assert plan.choosing == (plan.tuning, task)
    proof = Proof(load_task(replace(task, offset=15, limit=3)), {}, seen_tasks=[task])
    assert "the documents of colours that chose an edit share" in refusal(DataError, prove, live, proof)
    prove(live, replace(proof, question=load_task(replace(task, offset=17, limit=3))))


def test_a_task_and_its_objective_belong_together(place, task):
    assert "belong together" in refusal(PolicyError, plan_of, place, None)
    assert "belong together" in refusal(PolicyError, plan_of, place, task, ("loss",))


def test_groups_and_documents_that_edits_were_made_on_do_not_judge(live, task):
    assert "is a group of tasks" in refusal(DataError, task_rows, live, replace(task, name="equal"), {})
    seen = load_task(task).documents[2]
    rows = [Row(seen.question, seen.target)]
    assert "share an example" in refusal(DataError, task_rows, live, task, {"rows": rows})
