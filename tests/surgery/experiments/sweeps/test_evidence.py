"""Methods against adapters: from the files of the runs, against what is computed of them here."""

import pytest
from scipy import stats

from surgery.evaluation import BASELINE, PairedDifferences, over_adapters
from surgery.experiments.sweeps import OWN_TASKS, evidence, kept_sweeps, results
from surgery.runs import delete_run, stored_run
from tests.helpers.models import save_adapter, tiny_llama
from tests.surgery.experiments.sweeps.conftest import swept_from


@pytest.fixture
def other(tmp_path):
    """A second adapter of the workplace's base."""
    save_adapter(tiny_llama(), tmp_path / "other", seed=7)
    return str(tmp_path / "other")


def test_methods_meet_adapters_with_their_own_changes_and_the_effect_over_both(place, other):
    edits = [{"policies": ["scale", {"policy": "scale", "knobs": {"gamma": 0.5}}], "energies": ["none"]}]
    swept = swept_from(place, adapters={"one": place.adapter, "two": other}, edits=edits)
    found = {each.metric.name: each for each in evidence(results(swept))}
    loss = found["loss"]
    assert (loss.question, loss.adapters) == ("sums", ("one", "two"))
    method = next(each for each in loss.methods if "0.5" in each.method)
    runs = {group.adapter.name: run for group, run in swept.runs}
    own = {}
    for name, run in runs.items():
        scores = run.evaluation.scores
        own[name] = scores[method.method].loss - scores[BASELINE].loss
        # of two tests, of which the scale of 1 has p 1
        raw = stats.ttest_1samp(own[name], 0).pvalue
        assert method.adapters[name].p == pytest.approx(min(1.0, 2 * raw))
        assert method.adapters[name].change.mean == pytest.approx(own[name].mean())
        assert method.adapters[name].run == run.plan.key
    expected = over_adapters([PairedDifferences(each) for each in own.values()], same_rows=True)
    assert method.over.effect == expected.effect, "both answered the same rows"
    assert method.over.same_rows
    assert sum(method.counts) == 2
    # nothing is changed by a scale of 1
    same = next(each for each in loss.methods if each is not method)
    assert same.over.effect.mean == 0
    assert same.counts == (0, 2, 0)
    assert loss.by_chance == pytest.approx(0.1)

    # the list of sweeps tells the same of what it finds on the disk
    [kept] = kept_sweeps()
    assert evidence(results(kept)) == tuple(found.values())
    assert len(kept.answered) == len(kept.groups) == 2
    delete_run(runs["two"])
    [kept] = kept_sweeps()
    assert len(kept.answered) == 1
    [left, *_] = evidence(results(kept))
    assert left.adapters == ("one",)
    assert stored_run(left.methods[0].adapters["one"].run)
    # cells that were read before a run went tell nothing of it either
    assert evidence(results(swept))[0].adapters == ("one",)


def test_adapters_with_a_task_each_are_averaged_over_their_own_tasks(place, other):
    task = {"data": place.evaluation.data, "separator": True}
    adapters = {"one": {"source": place.adapter, "tasks": ["a"]}, "two": {"source": other, "tasks": ["b"]}}
    tasks = {"a": {**task, "limit": 3}, "b": {**task, "limit": 2, "start": 3}}
    edits = [{"policies": ["scale"]}]
    found = evidence(results(swept_from(place, adapters=adapters, tasks=tasks, edits=edits)))
    assert {each.question for each in found} == {OWN_TASKS}
    over = found[0].methods[0].over
    assert (over.adapters, over.same_rows) == (2, False)
    assert [each.task for each in found[0].methods[0].adapters.values()] == ["a", "b"]
    assert [each.examples for each in found[0].methods[0].adapters.values()] == [3, 2]
