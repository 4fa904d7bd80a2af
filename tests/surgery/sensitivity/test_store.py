"""The measurements of this machine, told by their headers."""

import time
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from surgery.data import Encoding, planned_rows
from surgery.errors import Cancelled
from surgery.model import BaseChoice
from surgery.progress import Control
from surgery.sensitivity import (
    calibrate,
    calibration_slice,
    delete_measurement,
    load_sensitivity,
    save_sensitivity,
    stored_measurements,
)
from tests.surgery.sensitivity.conftest import COUNT, names, same, stopping


def test_the_store_lists_what_it_has_from_the_headers_alone(loaded, plan, store, files):
    measured = calibrate(loaded, plan)
    with pytest.raises(Cancelled):
        calibrate(loaded, replace(plan, seed=3), control=Control(progress=stopping(after=5)[0]))
    (store / "text.safetensors").write_text("nothing")
    save_file({"losses": np.ones(3)}, store / "other.safetensors", metadata={"format": "pt"})
    listed = {measurement.finished: measurement for measurement in stored_measurements(loaded.adapter.digest)}
    assert len(listed) == 2
    found, part = listed[True], listed[False]
    assert (found.plan, found.examples, found.done, found.dtype) == (plan, COUNT, COUNT, "float32")
    assert found.loss == pytest.approx(measured.losses.mean(), rel=1e-15)
    assert found.left_out == measured.left_out == {"unreadable": 1}
    assert found.base == BaseChoice(str(files / "base"))
    assert abs(found.measured.timestamp() - time.time()) < 120
    assert (part.done, part.examples, part.plan) == (5, COUNT, replace(plan, seed=3))
    lengths = sorted((e.length for e in calibration_slice(loaded, replace(plan, seed=3)).examples), reverse=True)
    assert part.tokens_left == sum(lengths[5:])
    assert stored_measurements("another adapter") == []
    assert found.is_of(replace(found.base, device="cuda"), replace(plan, checkpointing=True))
    assert not found.is_of(replace(found.base, dtype="bfloat16"), plan)
    assert not found.is_of(found.base, replace(plan, seed=3))
    delete_measurement(found)
    assert names(store).count(".safetensors") == 2  # the two that are none


def test_a_result_of_an_earlier_version_is_listed_without_its_settings(loaded, plan, store):
    measured = calibrate(loaded, plan)
    (file,) = store.iterdir()
    from safetensors import safe_open

    with safe_open(str(file), framework="np") as handle:
        old = {name: handle.metadata()[name] for name in ("format", "provenance", "names")}
    save_file(load_file(file), file, metadata=old)
    assert load_sensitivity(file).left_out == {}
    (found,) = stored_measurements(loaded.adapter.digest)
    assert (found.plan, found.base, found.loss, found.examples) == (None, None, None, COUNT)
    assert same(calibrate(loaded, plan), measured)  # found again, with what its rows left out


def test_what_was_left_out_comes_back_with_a_stored_result(loaded, plan, store, tmp_path):
    plan = replace(plan, encoding=Encoding(separator=True, max_length=11))
    measured = calibrate(loaded, plan)
    slice_ = planned_rows(plan)
    rows = [*slice_.rows, *slice_.spare]  # too few fit, so all are tried
    tokens = [len(row.prompt) + len(row.answer) + 4 for row in rows]  # template, separator, end
    long = sum(length > 11 for length in tokens)
    assert 0 < long < len(rows) < COUNT + long
    assert measured.left_out == {"unreadable": 1, "too long": long}
    assert measured.examples == len(rows) - long
    assert calibrate(loaded, plan).left_out == measured.left_out
    save_sensitivity(measured, tmp_path / "out.safetensors")
    assert load_sensitivity(tmp_path / "out.safetensors").left_out == measured.left_out
    assert measured.head(3).left_out == measured.left_out
