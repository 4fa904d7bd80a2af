"""A sweep over several processes and machines."""

import pickle
from importlib.util import find_spec

import pytest

from surgery.data import UnusableRow
from surgery.errors import DataError, SweepError
from surgery.experiments.sweeps import (
    Resources,
    on_ray,
    request,
    results,
)
from surgery.model import BaseChoice
from tests.helpers.cluster import Killer, two_nodes
from tests.helpers.models import save_adapter, tiny_llama
from tests.helpers.refusals import refusal
from tests.surgery.experiments.sweeps.conftest import numbers, same_numbers, swept_from


@pytest.fixture(scope="module")
def cluster():
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install -e .[cluster]")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
            patch.setenv(name, "0")  # put back when the module ends
        with two_nodes() as address:
            yield address


def test_a_worker_that_is_killed_half_way_costs_no_cell_and_changes_no_number(
    place, cluster, tmp_path, monkeypatch
):
    rows = {"sums": {"data": place.evaluation.data, "batch_size": 1}}
    alone = swept_from(place, tasks=rows)
    # another history and another home: nothing is known there
    away = tmp_path / "away"
    monkeypatch.setenv("SURGERY_HOME", str(away))
    monkeypatch.setattr("surgery.files.places.RUNS", str(tmp_path / "brought back"))
    # one adapter more, which fails on every worker: it was trained on another model
    wider = save_adapter(tiny_llama(intermediate_size=40), tmp_path / "misfit")
    adapters = {"tiny": place.adapter, "misfit": str(wider)}
    runner = on_ray(Resources(), address=cluster)
    with Killer(away / "runs") as killer:
        swept = swept_from(place, runner, tasks=rows, adapters=adapters, attempts=3)
    assert killer.killed, "no worker was at work when it was to be killed"
    assert {each.cell.adapter for each in results(swept)} == {"tiny"}
    assert len(results(swept)) == 8
    same_numbers(numbers(alone), numbers(swept))
    assert {(failed.group.adapter.name, failed.attempts) for failed in swept.failed} == {("misfit", 3)}
    assert all("the adapter was trained on" in failed.problem for failed in swept.failed)
    # the workers wrote to their own history, and the files of every run came back
    assert {run.plan.key for _, run in swept.runs} == {folder.name for folder in (away / "runs").iterdir()}
    assert all(run.folder.parent == tmp_path / "brought back" for _, run in swept.runs)


def test_an_error_says_the_same_in_another_process():
    for error in (DataError("a  b", "c"), UnusableRow("too long", "a", "b")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(error))


def test_work_that_no_machine_can_hold_is_refused_and_not_waited_for(place, cluster):
    runner = on_ray(Resources(cpus=64), address=cluster)
    assert "64 CPUs" in refusal(SweepError, swept_from, place, runner)


def test_a_task_asks_for_the_memory_and_the_cards_of_its_base(place):
    small = request(place.base, Resources())
    assert small["num_gpus"] == 0
    assert 0 < small["memory"] < 2**26
    assert request(BaseChoice("owner/name", device="cuda"), Resources()) == {"num_cpus": 1, "num_gpus": 1}
    tight = Resources(gpu_memory_gib=1.0)
    assert request(BaseChoice(place.base.location, device="auto"), tight)["num_gpus"] == 1
    assert request(place.base, Resources(cpus=3, gpus=2, memory_gib=5)) == {
        "num_cpus": 3,
        "num_gpus": 2,
        "memory": 5 * 2**30,
    }
    assert "one card" in refusal(
        SweepError, request, BaseChoice(place.base.location, device="cuda:1"), Resources()
    )


def test_without_ray_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr("surgery.experiments.sweeps.ray_runner.find_spec", lambda name: None)
    assert "--in-process" in refusal(SweepError, on_ray, Resources())
