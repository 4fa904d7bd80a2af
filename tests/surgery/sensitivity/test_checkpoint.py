"""A calibration that is cancelled, killed or fails goes on where it stopped, to the same bits."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan, Encoding, calibration_rows
from surgery.errors import Cancelled
from surgery.model import BaseChoice, attach, batch_order, run_batches
from surgery.progress import Control
from surgery.sensitivity import (
    PartFile,
    Partial,
    Sensitivity,
    Spent,
    calibrate,
    calibration_slice,
    characters,
    delete_measurement,
    known_pace,
    load_sensitivity,
    remember_pace,
    save_sensitivity,
    stored_measurements,
    stored_sensitivity_file,
)
from surgery.spectra import decompose
from tests.helpers.models import random_examples, save_adapter, save_model, tiny_llama, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[3]
COUNT = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    save_model(tiny_llama(), folder / "base")
    save_adapter(tiny_llama(), folder / "adapter")
    records = [{"prompt": f"{a}+{b}=" + "." * (a % 4), "answer": str(a + b)} for a in range(8) for b in range(6)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records) + "{\n")
    return folder


@pytest.fixture
def store(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    return tmp_path / "home" / "sensitivities"


@pytest.fixture
def plan(files) -> CalibrationPlan:
    return CalibrationPlan(str(files / "rows.jsonl"), COUNT, batch_size=1)


@pytest.fixture
def live(files, store):
    adapter = open_adapter(files / "adapter")
    with attach(adapter, decompose(adapter), BaseChoice(str(files / "base"))) as attached:
        yield attached


def same(first: Sensitivity, second: Sensitivity) -> bool:
    return (
        first.provenance == second.provenance
        and first.left_out == second.left_out
        and np.array_equal(first.losses, second.losses)
        and all(np.array_equal(g, second.values[name]) for name, g in first.values.items())
    )


def names(folder: Path) -> list[str]:
    return sorted(file.suffix for file in folder.glob("*"))


def whole(live, plan) -> Sensitivity:
    """The measurement without a break, and nothing of it left in the store."""
    measured = calibrate(live, plan)
    stored_sensitivity_file(measured.provenance.key, plan.batch_size).unlink()
    return measured


def stopping(after: int):
    """A progress callback that cancels once so many examples are done, and what it saw."""
    seen = []

    def progress(done, total):
        seen.append(done)
        if done >= after:
            raise Cancelled

    return progress, seen


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_cancelled_calibration_goes_on_and_ends_with_the_same_bits(live, plan, store, batch_size):
    plan = replace(plan, batch_size=batch_size)
    expected = whole(live, plan)
    progress, seen = stopping(after=14)
    with pytest.raises(Cancelled):
        calibrate(live, plan, control=Control(progress=progress))
    assert names(store) == [".part"]
    again, resumed = [], []
    measured = calibrate(
        live,
        plan,
        control=Control(
            progress=lambda done, _: again.append(done), resumed=lambda *counts: resumed.append(counts)
        ),
    )
    assert same(measured, expected)
    assert seen[-1] == 14
    assert resumed == [(14, COUNT)]
    assert again == [14, *range(14 + batch_size, COUNT, batch_size), COUNT]
    assert names(store) == [".safetensors"]


def test_an_error_in_the_middle_loses_nothing_that_was_finished(live, plan, store, monkeypatch):
    expected = whole(live, plan)
    calls = []

    def fail(model, batch):
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("the device is gone")
        return original(model, batch)

    from surgery.sensitivity import backward as module

    original = module.answer_losses
    monkeypatch.setattr(module, "answer_losses", fail)
    with pytest.raises(RuntimeError):
        calibrate(live, plan)
    (part,) = stored_measurements(live.adapter.digest)
    assert part.done == 5
    assert same(calibrate(live, plan), expected)


CHILD = """
import sys, time
from surgery.adapter import open_adapter
from surgery.model import BaseChoice
from surgery.data import CalibrationPlan
from surgery.model import attach
from surgery.sensitivity import calibrate
from surgery.progress import Control
from surgery.spectra import decompose
base, adapter, rows = sys.argv[1:]
opened = open_adapter(adapter)
with attach(opened, decompose(opened), BaseChoice(base)) as live:
    def progress(done, total):
        print(done, flush=True)
        time.sleep(60 if done == 37 else 0.02)
    calibrate(live, CalibrationPlan(rows, 40, batch_size=1), control=Control(progress=progress))
"""


def test_a_killed_calibration_goes_on_and_ends_with_the_same_bits(files, live, plan, store):
    arguments = [str(files / name) for name in ("base", "adapter", "rows.jsonl")]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        last = next(line for line in child.stdout if line.strip() == "37")
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert last
    assert child.returncode == -signal.SIGKILL
    assert names(store) == [".part"]
    (part,) = stored_measurements(live.adapter.digest)
    # every sixteenth batch was written, unless the writing itself was slow
    assert part.done in (16, *range(17, 38))
    assert (part.finished, part.examples, part.plan) == (False, COUNT, plan)
    seen = []
    measured = calibrate(live, plan, control=Control(progress=lambda done, _: seen.append(done)))
    assert seen == list(range(part.done, COUNT + 1))
    assert names(store) == [".safetensors"]
    stored_sensitivity_file(measured.provenance.key, 1).unlink()
    assert same(calibrate(live, plan), measured)


def test_a_part_of_another_measurement_is_not_taken_up(live, plan, store):
    with pytest.raises(Cancelled):
        calibrate(live, plan, control=Control(progress=stopping(after=5)[0]))
    seen = []
    for other in (replace(plan, seed=1), replace(plan, batch_size=2), replace(plan, encoding=Encoding(eos=False))):
        calibrate(live, other, control=Control(progress=lambda done, _: seen.append(done)))
        assert seen[0] == other.batch_size
        seen.clear()
    assert names(store).count(".part") == 1


def torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-50])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def exchanged(file: Path) -> None:
    save_file({"losses": np.ones(5)}, file)


def short(file: Path) -> None:
    from safetensors import safe_open

    with safe_open(str(file), framework="np") as handle:
        metadata = handle.metadata()
    save_file({name: g[:3] for name, g in load_file(file).items()}, file, metadata={**metadata, "done": "99"})


@pytest.mark.parametrize("damage", [torn, emptied, exchanged, short])
def test_a_damaged_part_is_measured_from_the_start(live, plan, store, damage):
    expected = whole(live, plan)
    with pytest.raises(Cancelled):
        calibrate(live, plan, control=Control(progress=stopping(after=5)[0]))
    damage(next(store.glob("*.part")))
    seen = []
    assert same(calibrate(live, plan, control=Control(progress=lambda done, _: seen.append(done))), expected)
    assert seen[0] == 1
    assert names(store) == [".safetensors"]


def test_the_batches_after_a_break_are_those_that_would_have_come_even_where_memory_ran_out():
    examples = random_examples(23, seed=5)

    def ids(break_after=None):
        batches, parts = [], []

        def step(batch):
            if len(batch.indices) > 3:
                raise torch.OutOfMemoryError("CUDA out of memory")
            batches.append(batch.indices)
            parts.append((sum(map(len, batches)), len(batch.indices)))
            if break_after == len(batches):
                raise Cancelled

        if break_after is None:
            run_batches(examples, 8, 0, step)
            return batches
        with pytest.raises(Cancelled):
            run_batches(examples, 8, 0, step)
        done, size = parts[-1]
        rest = []
        run_batches(examples, size, 0, lambda batch: rest.append(batch.indices), start=done)
        return batches + rest

    assert ids(break_after=4) == ids(break_after=1) == ids()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_parts_are_written_every_sixteen_batches_or_five_seconds(tmp_path):
    examples = random_examples(100)
    clock, file = Clock(), tmp_path / "a.part"
    part = PartFile(file, batch_order(examples), {"m": 2}, lambda done: {"examples": "100"}, clock=clock)
    values = {"m": np.arange(200.0).reshape(100, 2)}

    def keep(done):
        part.keep(Partial(done, 1, values, np.arange(100.0)))
        found = part.read()
        return found.done if found else 0

    assert [keep(done) for done in range(1, 20)] == [0] * 15 + [16] * 4
    clock.now = 6
    assert keep(20) == 20
    part.flush()  # there is nothing new
    found = part.read()
    rows = batch_order(examples)[:20]
    np.testing.assert_array_equal(found.values["m"][rows], values["m"][rows])
    np.testing.assert_array_equal(found.losses[rows], np.arange(100.0)[rows])
    assert not found.losses[batch_order(examples)[20:]].any()
    for name, age in (("a.part.12345678.tmp", 90), ("a.safetensors.12345678.tmp", 90), ("a.part.87654321.tmp", 1)):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, times=(time.time() - age,) * 2)
    part.drop()
    # what another process is writing now is its own
    assert [file.name for file in tmp_path.iterdir()] == ["a.part.87654321.tmp"]


def test_a_folder_that_cannot_be_written_stops_no_measurement(tmp_path):
    (tmp_path / "taken").write_text("")
    part = PartFile(tmp_path / "taken" / "a.part", [0, 1], {"m": 1}, lambda done: {})
    part.keep(Partial(1, 1, {"m": np.zeros((2, 1))}, np.zeros(2)))
    part.flush()
    assert part.read() is None
    part.drop()


# ---- the store's list ----


def test_the_store_lists_what_it_has_from_the_headers_alone(live, plan, store, files):
    measured = calibrate(live, plan)
    with pytest.raises(Cancelled):
        calibrate(live, replace(plan, seed=3), control=Control(progress=stopping(after=5)[0]))
    (store / "text.safetensors").write_text("nothing")
    save_file({"losses": np.ones(3)}, store / "other.safetensors", metadata={"format": "pt"})
    listed = {measurement.finished: measurement for measurement in stored_measurements(live.adapter.digest)}
    assert len(listed) == 2
    found, part = listed[True], listed[False]
    assert (found.plan, found.examples, found.done, found.dtype) == (plan, COUNT, COUNT, "float32")
    assert found.loss == pytest.approx(measured.losses.mean(), rel=1e-15)
    assert found.left_out == measured.left_out == {"unreadable": 1}
    assert found.base == BaseChoice(str(files / "base"))
    assert abs(found.measured.timestamp() - time.time()) < 120
    assert (part.done, part.examples, part.plan) == (5, COUNT, replace(plan, seed=3))
    lengths = sorted((e.length for e in calibration_slice(live, replace(plan, seed=3)).examples), reverse=True)
    assert part.tokens_left == sum(lengths[5:])
    assert stored_measurements("another adapter") == []
    assert found.is_of(replace(found.base, device="cuda"), replace(plan, checkpointing=True))
    assert not found.is_of(replace(found.base, dtype="bfloat16"), plan)
    assert not found.is_of(found.base, replace(plan, seed=3))
    delete_measurement(found)
    assert names(store).count(".safetensors") == 2  # the two that are none


def test_a_result_of_an_earlier_version_is_listed_without_its_settings(live, plan, store):
    measured = calibrate(live, plan)
    (file,) = store.iterdir()
    from safetensors import safe_open

    with safe_open(str(file), framework="np") as handle:
        old = {name: handle.metadata()[name] for name in ("format", "provenance", "names")}
    save_file(load_file(file), file, metadata=old)
    assert load_sensitivity(file).left_out == {}
    (found,) = stored_measurements(live.adapter.digest)
    assert (found.plan, found.base, found.loss, found.examples) == (None, None, None, COUNT)
    assert same(calibrate(live, plan), measured)  # found again, with what its rows left out


def test_what_was_left_out_comes_back_with_a_stored_result(live, plan, store, tmp_path):
    plan = replace(plan, encoding=Encoding(max_length=11))
    measured = calibrate(live, plan)
    rows = calibration_rows(plan)
    tokens = [len(row.prompt) + len(row.answer) + 4 for row in rows]  # template, separator, end
    long = sum(length > 11 for length in tokens)
    assert 0 < long < COUNT
    assert measured.left_out == {"unreadable": 1, "too long": long}
    assert measured.examples == COUNT - long
    assert calibrate(live, plan).left_out == measured.left_out
    save_sensitivity(measured, tmp_path / "out.safetensors")
    assert load_sensitivity(tmp_path / "out.safetensors").left_out == measured.left_out
    assert measured.head(3).left_out == measured.left_out


# ---- pace ----


def test_the_time_of_the_same_rows_is_that_of_the_run_before(live, plan, store):
    base = BaseChoice("some/base")
    rows, calibration = calibration_rows(plan), calibration_slice(live, plan)
    tokens = sum(example.length for example in calibration.examples)
    assert known_pace(base, plan) is None
    remember_pace(base, plan, rows, calibration, tiny_tokenizer(), Spent(tokens, 8.0))
    pace = known_pace(base, plan)
    assert pace.tokens_per_second == pytest.approx(tokens / 8)
    assert pace.tokens_per_row == 3  # <u>, <a> and </s>
    assert pace.seconds(len(rows), characters(rows)) == pytest.approx(8)
    assert pace.seconds(2 * len(rows), 2 * characters(rows)) == pytest.approx(16)
    for other_base, other_plan in (
        (replace(base, dtype="bfloat16"), plan),
        (replace(base, device="cuda"), plan),
        (base, replace(plan, checkpointing=True)),
        (base, replace(plan, encoding=Encoding("plain"))),
    ):
        assert known_pace(other_base, other_plan) is None
    assert known_pace(base, replace(plan, seed=9, examples=3)) == pace


@pytest.mark.parametrize("content", ["", "[]", "{", "null", '{"%s": 5}', '{"%s": {"tokens_per_second": 0}}'])
def test_a_damaged_record_of_the_pace_is_no_pace(live, plan, store, content):
    base = BaseChoice("some/base")
    calibration = calibration_slice(live, plan)
    remember_pace(base, plan, calibration_rows(plan), calibration, tiny_tokenizer(), Spent(100, 1.0))
    file = store.parent / "pace.json"
    (key,) = json.loads(file.read_text())
    file.write_text(content.replace("%s", key))
    assert known_pace(base, plan) is None
    remember_pace(base, plan, calibration_rows(plan), calibration, tiny_tokenizer(), Spent(100, 1.0))
    assert known_pace(base, plan) is not None


def test_a_run_too_short_to_time_leaves_no_pace(live, plan, store):
    remember_pace(
        BaseChoice("b"),
        plan,
        calibration_rows(plan),
        calibration_slice(live, plan),
        tiny_tokenizer(),
        Spent(9, 0.01),
    )
    assert known_pace(BaseChoice("b"), plan) is None
