"""The history as it is shown: own runs first, and shipped ones until an own run takes their place."""

import shutil

from surgery.runs import known_run, known_runs, stored_runs


def test_a_shipped_run_gives_way_to_an_own_one_that_has_ended(history):
    shipped = known_runs()
    assert shipped
    assert all(run.shipped and run.finished for run in shipped)
    assert not stored_runs()
    first = shipped[0]
    own = history / first.plan.key
    shutil.copytree(first.folder, own)
    (own / "metrics.json").rename(own / "kept")
    assert [run.folder for run in known_runs() if run.plan.key == first.plan.key] == [own, first.folder]
    assert known_run(first.plan.key).folder == first.folder
    (own / "kept").rename(own / "metrics.json")
    assert [run.folder for run in known_runs() if run.plan.key == first.plan.key] == [own]
    assert known_run(first.plan.key).folder == own


def test_runs_are_those_of_the_adapter_that_is_asked_for():
    shipped = known_runs()
    digests = {run.plan.adapter_digest for run in shipped}
    assert len(digests) > 1
    for digest in digests:
        found = known_runs(digest)
        assert found == [run for run in shipped if run.plan.adapter_digest == digest]
    assert known_runs("0" * 64) == []
    assert known_run("0" * 24) is None
