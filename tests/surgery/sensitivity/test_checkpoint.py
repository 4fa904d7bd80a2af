"""A calibration that is cancelled, killed or fails goes on where it stopped, to the same bits."""

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

from surgery.data import Encoding
from surgery.errors import Cancelled
from surgery.model import batch_order, run_batches
from surgery.progress import Control
from surgery.sensitivity import (
    InputSums,
    PartFile,
    Partial,
    Sensitivity,
    calibrate,
    stored_measurements,
    stored_sensitivity_file,
)
from tests.helpers.models import random_examples
from tests.helpers.rounding import assert_losses, sensitivities_apart
from tests.surgery.sensitivity.conftest import COUNT, names, same, stopping

ROOT = Path(__file__).resolve().parents[3]


def whole(loaded, plan) -> Sensitivity:
    """The measurement without a break, and nothing of it left in the store."""
    measured = calibrate(loaded, plan)
    stored_sensitivity_file(measured.provenance.key, plan.batch_size).unlink()
    return measured


@pytest.mark.parametrize("batch_size", [1, 7])
def test_a_cancelled_calibration_goes_on_and_ends_with_the_same_bits(loaded, plan, store, batch_size):
    plan = replace(plan, batch_size=batch_size)
    expected = whole(loaded, plan)
    progress, seen = stopping(after=14)
    with pytest.raises(Cancelled):
        calibrate(loaded, plan, control=Control(progress=progress))
    assert names(store) == [".part"]
    again, resumed = [], []
    measured = calibrate(
        loaded,
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


def test_an_error_in_the_middle_loses_nothing_that_was_finished(loaded, plan, store, monkeypatch):
    expected = whole(loaded, plan)
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
        calibrate(loaded, plan)
    (part,) = stored_measurements(loaded.adapter.digest)
    assert part.done == 5
    assert same(calibrate(loaded, plan), expected)


# torch's own, and of the algebra that it calls: one says nothing to the other
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
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
with attach(opened, decompose(opened), BaseChoice(base)) as loaded:
    def progress(done, total):
        print(done, flush=True)
        time.sleep(60 if done == 37 else 0.02)
    calibrate(loaded, CalibrationPlan(rows, 40, batch_size=1), control=Control(progress=progress))
"""


def test_a_killed_calibration_goes_on_and_ends_with_the_same_bits_on_one_thread(files, loaded, plan, store):
    arguments = [str(files / name) for name in ("base", "adapter", "rows.jsonl")]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        cwd=ROOT,
        # the threads of this process: another number of them splits sums otherwise
        env={**os.environ, **dict.fromkeys(THREADS, str(torch.get_num_threads()))},
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
    (part,) = stored_measurements(loaded.adapter.digest)
    # every sixteenth batch was written, unless the writing itself was slow
    assert part.done in (16, *range(17, 38))
    assert (part.finished, part.examples, part.plan) == (False, COUNT, plan)
    seen = []
    measured = calibrate(loaded, plan, control=Control(progress=lambda done, _: seen.append(done)))
    assert seen == list(range(part.done, COUNT + 1))
    assert names(store) == [".safetensors"]
    stored_sensitivity_file(measured.provenance.key, 1).unlink()
    again = calibrate(loaded, plan)
    if torch.get_num_threads() == 1:
        assert same(again, measured)
    # on several threads another process may split the same sums otherwise
    assert_losses(again.losses, measured.losses, loaded.model)
    for name, g in measured.values.items():
        apart = np.linalg.norm(again.values[name] - g) / np.linalg.norm(g)
        assert apart <= sensitivities_apart(loaded.model), name


def test_a_part_of_another_measurement_is_not_taken_up(loaded, plan, store):
    with pytest.raises(Cancelled):
        calibrate(loaded, plan, control=Control(progress=stopping(after=5)[0]))
    seen = []
    for other in (replace(plan, seed=1), replace(plan, batch_size=2), replace(plan, encoding=Encoding(eos=False))):
        calibrate(loaded, other, control=Control(progress=lambda done, _: seen.append(done)))
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
def test_a_damaged_part_is_measured_from_the_start(loaded, plan, store, damage):
    expected = whole(loaded, plan)
    with pytest.raises(Cancelled):
        calibrate(loaded, plan, control=Control(progress=stopping(after=5)[0]))
    damage(next(store.glob("*.part")))
    seen = []
    assert same(calibrate(loaded, plan, control=Control(progress=lambda done, _: seen.append(done))), expected)
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
        part.keep(Partial(done, 1, values, np.arange(100.0), InputSums.of({"m": 2})))
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
    part.keep(Partial(1, 1, {"m": np.zeros((2, 1))}, np.zeros(2), InputSums.of({"m": 1})))
    part.flush()
    assert part.read() is None
    part.drop()
