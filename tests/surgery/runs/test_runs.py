"""The history of runs as files: what names a run, what is read back, what damage does, what runs share."""

import errno
import os
import shutil
from dataclasses import asdict, replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.cli import run_record, runs_text
from surgery.errors import DataError
from surgery.evaluation import AGAIN, BASELINE, summarise
from surgery.runs import (
    ABOUT,
    ENVIRONMENT,
    LOG,
    METRICS,
    RECIPE,
    SAMPLES,
    begin,
    delete_run,
    finish,
    logged_answers,
    samples_file,
    stored_run,
    stored_runs,
)
from tests.helpers.refusals import refusal
from tests.surgery.runs.conftest import PLAN, changed, evaluation, finished, function_scoped


def test_a_finished_run_is_read_back_as_it_was(history):
    run = finished(recipe="recipe: 1\n")
    (found,) = stored_runs()
    assert found == run == stored_run(PLAN.key)
    assert found.plan == PLAN, "numbers of components too, which JSON makes texts of"
    assert (found.finished, found.recipe) == (True, "recipe: 1\n")
    assert sorted(file.name for file in run.folder.iterdir()) == sorted(
        [ABOUT, RECIPE, ENVIRONMENT, LOG, SAMPLES, METRICS]
    )
    expected = evaluation()
    read = found.evaluation
    assert (read.samples, read.metrics, read.notes) == (expected.samples, expected.metrics, expected.notes)
    assert summarise(read) == summarise(expected)
    assert found.metrics.summary.variants == summarise(expected).variants
    assert run.folder.parent == history


def test_an_unfinished_run_has_no_results_and_goes_on_in_its_folder():
    run, log = begin(PLAN)
    log.add((0, 0, "x"), {BASELINE: 1, "edit": 2})
    log.add((0, 1, "y"), {"edit": 3})
    log.close()
    (found,) = stored_runs()
    assert (found.finished, found.done, found.recipe) == (False, 3, None)
    assert "not ended" in refusal(DataError, getattr, found, "evaluation")
    again, log = begin(PLAN)
    log.close()
    assert again == run
    assert len(log.known) == 2
    assert "unfinished" in runs_text([found])


DAMAGES = {
    "emptied": lambda file: file.write_bytes(b""),
    "nulls": lambda file: file.write_bytes(bytes(400)),
    "bytes": lambda file: file.write_bytes(b"\xff\xfe{}"),
    "null": lambda file: file.write_text("null"),
    "list": lambda file: file.write_text("[]"),
    "number": lambda file: file.write_text("5"),
    "object": lambda file: file.write_text("{}"),
    "deep": lambda file: file.write_text("[" * 90_000),
    "torn": lambda file: file.write_bytes(file.read_bytes()[:-9]),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "digest": changed(digest=None),
}


@pytest.mark.parametrize("name", [ABOUT, METRICS])
@pytest.mark.parametrize("damage", [*DAMAGES.values()], ids=[*DAMAGES])
def test_a_damaged_record_is_passed_over_and_the_others_are_listed(name, damage):
    other = finished(replace(PLAN, asked="other"))
    run = finished()
    damage(run.folder / name)
    assert stored_runs() == [other]
    assert stored_run(PLAN.key) is None
    assert other.plan.key in runs_text(stored_runs())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (ABOUT, {"started": "2024-01-01T00:00:00"}),
        (ABOUT, {"started": 5}),
        (ABOUT, {"examples": "many"}),
        (ABOUT, {"question": "rows"}),
        (ABOUT, {"edits": []}),
        (ABOUT, {"variants": {BASELINE: ""}}),
        (ABOUT, {"adapter_digest": "b" * 64}),
        (ABOUT, {"schema": 2}),
        (ABOUT, {"surplus": 1}),
        (METRICS, {"variants": {}}),
        (METRICS, {"samples": "0" * 64}),
        (METRICS, {"examples": 400}),
    ],
    ids=str,
)
def test_a_record_that_says_something_else_is_passed_over(name, values):
    other = finished(replace(PLAN, asked="other"))
    run = finished()
    changed(**values)(run.folder / name)
    assert stored_runs() == [other]


@function_scoped
@given(st.data())
def test_a_changed_byte_of_a_record_never_tells_something_else(history, data):
    shutil.rmtree(history)
    run = finished()
    file = run.folder / data.draw(st.sampled_from([ABOUT, METRICS]))
    whole = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
    file.write_bytes(whole)
    assert stored_run(PLAN.key) in (None, run)


@pytest.mark.parametrize("name", [ABOUT, METRICS])
def test_a_run_with_a_damaged_record_keeps_its_answers_when_it_is_begun_again(name):
    run, log = begin(PLAN)
    with log:
        log.add((0, 0, "x"), {BASELINE: 1})
        finish(run, evaluation())
    (run.folder / name).write_text("{")
    again, log = begin(PLAN)
    with log:
        assert len(log.known) == 1
        assert finish(again, evaluation()).evaluation.samples == evaluation().samples
    assert stored_run(PLAN.key) == replace(again, metrics=run.metrics or stored_run(PLAN.key).metrics)


def test_files_and_folders_that_are_no_run_are_passed_over(history):
    run = finished()
    (history / "notes.txt").write_text("mine")
    (history / "empty").mkdir()
    shutil.copytree(run.folder, history / ("0" * 24))  # another run's name on this run's files
    (history / "link").symlink_to(history / "nowhere")
    assert stored_runs() == [run]
    assert stored_run("0" * 24) is None


NO_KEYS = ["", ".", "..", "../x", "/etc", "a", "A" * 24, "a" * 23, "a" * 25, "٣" * 24, "a" * 23 + "/"]


@pytest.mark.parametrize("key", [*NO_KEYS, "../" * 8, "a\x00" * 12, "a" * 20 + "/../"])
def test_a_key_that_is_no_name_of_a_run_leads_nowhere(history, key):
    finished()
    shutil.copytree(history, history.parent / "x", dirs_exist_ok=True)
    assert stored_run(key) is None


def test_a_key_leads_to_no_run_outside_of_the_history(history):
    run = finished()
    outside = shutil.move(history, history.parent / "elsewhere")
    history.mkdir()
    assert (outside / run.plan.key / ABOUT).is_file()
    for key in (f"../elsewhere/{run.plan.key}", str(outside / run.plan.key), run.plan.key):
        assert stored_run(key) is None


def test_runs_are_listed_newest_first_and_by_adapter():
    runs = [finished(replace(PLAN, asked=str(i), adapter_digest=str(i % 2) * 64)) for i in range(4)]
    assert stored_runs() == runs[::-1]
    assert stored_runs("1" * 64) == [runs[3], runs[1]]
    assert stored_runs("none") == []
    times = [run.started for run in runs]
    assert times == sorted(times)
    assert times[-1] - times[0] < timedelta(minutes=1)


def test_without_a_folder_there_are_no_runs(history):
    shutil.rmtree(history)
    assert stored_runs() == []
    assert stored_run(PLAN.key) is None


def test_a_history_that_cannot_be_written_is_refused(history, monkeypatch):
    monkeypatch.setattr("surgery.files.places.RUNS", str(history / "file"))
    (history / "file").write_text("")
    assert os.strerror(errno.ENOTDIR) in refusal(DataError, begin, PLAN)
    assert stored_runs() == []


SIGMAS = st.fixed_dictionaries({name: st.sampled_from(["", "s1", "s2"]) for name in ("a", "b")})
PLACES = st.tuples(st.integers(0, 1), st.integers(0, 1), st.just("x"))
ANSWERS = st.dictionaries(PLACES, st.sets(st.sampled_from("ab"), min_size=1), min_size=1, max_size=4)
OTHERS = st.lists(st.tuples(st.sampled_from("qr"), SIGMAS, ANSWERS), min_size=1, max_size=3)


@settings(function_scoped, max_examples=25)
@given(OTHERS, SIGMAS, ANSWERS)
def test_answers_are_taken_over_for_the_same_sigma_in_the_same_context_and_for_no_other(
    history, others, mine, own
):
    shutil.rmtree(history)
    # an answer tells which σ′ of which context gave it to which request
    known: dict[tuple[str, str], set] = {}
    for asked, variants, answers in [*others, ("q", mine, own)]:
        _, log = begin(replace(PLAN, asked=asked, variants=variants, edits={}))
        with log:
            for place, names in answers.items():
                given_names = [name for name in names if name in variants and name not in log.known.get(place, {})]
                if given_names:
                    log.add(place, {name: [asked, variants[name], *place] for name in given_names})
                for name in given_names:
                    known.setdefault((asked, variants[name]), set()).add(place)
    _, log = begin(replace(PLAN, asked="q", variants=mine, edits={}, purpose="another"))
    log.close()
    for name, sigma in mine.items():
        found = {place: answers[name] for place, answers in log.known.items() if name in answers}
        assert found == {place: ["q", sigma, *place] for place in known.get(("q", sigma), ())}


def test_the_rerun_is_never_taken_from_the_unedited_adapter():
    _, log = begin(PLAN)
    with log:
        log.add((0, 0, "x"), {BASELINE: 1})
    _, log = begin(replace(PLAN, variants={**PLAN.variants, AGAIN: AGAIN}))
    log.close()
    assert log.known == {(0, 0, "x"): {BASELINE: 1}}


def test_answers_that_came_in_meanwhile_are_taken_over_by_a_run_that_goes_on():
    _, log = begin(PLAN)
    log.close()
    _, other = begin(replace(PLAN, variants={BASELINE: ""}, edits={}))
    with other:
        other.add((0, 0, "x"), {BASELINE: 1})
        _, log = begin(PLAN)
        log.close()
    assert log.known == {(0, 0, "x"): {BASELINE: 1}}


def test_a_damaged_line_of_another_run_is_not_taken_over():
    run, log = begin(replace(PLAN, variants={BASELINE: ""}, edits={}))
    with log:
        log.add((0, 0, "x"), {BASELINE: 1.25})
        log.add((0, 1, "y"), {BASELINE: 2.5})
    file = run.folder / LOG
    file.write_bytes(file.read_bytes().replace(b"1.25", b"1.75"))
    _, log = begin(PLAN)
    log.close()
    assert log.known == {(0, 1, "y"): {BASELINE: 2.5}}


def no_room(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["pathlib.Path.write_bytes", "pathlib.Path.replace"])
def test_results_that_do_not_fit_on_the_disk_leave_the_run_as_it_was(monkeypatch, place):
    run, log = begin(PLAN)
    with log, monkeypatch.context() as patch:
        patch.setattr(place, no_room)
        told = refusal(DataError, finish, run, evaluation())
    needed = -(-len(samples_file(evaluation())) // 1024)
    assert f"{os.strerror(errno.ENOSPC)}: {needed} KiB are needed" in told
    assert "requests are kept" in told
    assert not [file.name for file in run.folder.iterdir() if file.suffix == ".tmp"]
    assert not (run.folder / METRICS).exists()


def test_a_run_that_cannot_be_begun_leaves_its_log_free(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", no_room)
        assert os.strerror(errno.ENOSPC) in refusal(DataError, begin, PLAN)
    assert finished().finished


def test_results_cannot_be_written_to_a_folder_that_was_removed():
    run, log = begin(PLAN)
    shutil.rmtree(run.folder)
    told = refusal(DataError, finish, run, evaluation())
    assert os.strerror(errno.ENOENT) in told
    assert "kept" not in told
    refusal(DataError, log.close)


def test_a_run_is_deleted_unless_it_is_under_way():
    run, log = begin(PLAN)
    with log:
        assert "under way" in refusal(DataError, delete_run, run)
        assert logged_answers(run.folder / LOG) == {}
    assert stored_runs() == [run]
    delete_run(run)
    assert stored_runs() == []
    assert not run.folder.exists()
    delete_run(run)


def test_a_folder_that_cannot_be_removed_is_told(monkeypatch):
    run = finished()
    monkeypatch.setattr("surgery.runs.runs.shutil.rmtree", no_room)
    assert os.strerror(errno.ENOSPC) in refusal(DataError, delete_run, run)
    assert stored_runs() == [run]


def test_a_path_with_odd_bytes_is_no_obstacle():
    plan = replace(PLAN, adapter=os.fsdecode(b"/adapters/\xff\xc3\xa9"))
    finished(plan)
    assert stored_run(plan.key).plan == plan


def test_a_run_is_told_in_one_record():
    record = run_record(finished())
    assert (record["slice"], record["examples"], record["finished"]) == ("/data/rows.jsonl", 4, True)
    assert record["changes"]["edit"]["loss"] == asdict(evaluation().effect("edit"))
