"""Calibrating an adapter on a tiny model, and the store of measurements."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from surgery.data import (
    CalibrationPlan,
    Encoding,
    calibration_rows,
    choose,
    planned_rows,
    rows_digest,
    seen_keys,
)
from surgery.errors import BaseModelError, Cancelled, DataError, SurgeryError
from surgery.model import BaseChoice
from surgery.progress import Control
from surgery.sensitivity import (
    calibrate,
    calibration_slice,
    load_sensitivity,
    measure_inputs,
    save_sensitivity,
    stored_measurements,
    stored_sensitivity_file,
)
from tests.helpers.limited_system import files_of_at_most, unprivileged
from tests.helpers.models import characters, save_adapter, save_model, tiny_llama, tiny_tokenizer
from tests.helpers.refusals import refusal
from tests.helpers.workplace import ROWS, forbid_measuring, stored_files


def same(first, second) -> bool:
    return (
        first.provenance == second.provenance
        and np.array_equal(first.losses, second.losses)
        and list(first.values) == list(second.values)
        and all(np.array_equal(g, second.values[name]) for name, g in first.values.items())
    )


def test_the_slice_holds_the_planned_rows_as_token_ids(place):
    plan = replace(place.calibration, examples=4, seed=3, start=2, encoding=Encoding("plain", separator=False))
    expected = choose(ROWS[:30], 4, seed=3, start=2)
    assert calibration_rows(plan) == expected
    with place.attach() as live:
        found = calibration_slice(live, plan)
    eos = tiny_tokenizer().eos_token_id
    assert [e.key for e in found.examples] == [row.key for row in expected]
    assert [list(e.answer_ids) for e in found.examples] == [[*characters(row.answer), eos] for row in expected]


def test_calibrating_measures_every_module_and_stores_the_measurement(place):
    seen = []
    with place.attach() as live:
        measured = calibrate(
            live, place.calibration, control=Control(progress=lambda done, total: seen.append((done, total)))
        )
        assert list(measured.values) == list(live.spectra)
    assert seen == [(4, 10), (8, 10), (10, 10)]
    assert stored_files(place) == [stored_sensitivity_file(measured.provenance.key, place.calibration.batch_size)]
    assert same(load_sensitivity(stored_files(place)[0]), measured)


def test_a_stored_measurement_is_found_again(place, monkeypatch):
    with place.attach() as live:
        first = calibrate(live, place.calibration)
    forbid_measuring(monkeypatch)
    seen = []
    with place.attach() as live:
        second = calibrate(
            live, place.calibration, control=Control(progress=lambda done, total: seen.append((done, total)))
        )
    assert same(first, second)
    assert seen == [(10, 10)]


def test_another_batch_size_is_measured_apart(place):
    # it moves the last bits, and a recipe is to give the same bytes whatever else was measured before
    with place.attach() as live:
        calibrate(live, place.calibration)
        calibrate(live, replace(place.calibration, batch_size=7))
    assert len(stored_files(place)) == 2


@pytest.mark.parametrize(
    "change", [{"examples": 9}, {"seed": 1}, {"start": 1}, {"encoding": Encoding(separator=True)}], ids=str
)
def test_another_slice_is_measured_apart(place, change):
    with place.attach() as live:
        calibrate(live, place.calibration)
        calibrate(live, replace(place.calibration, **change))
    assert len(stored_files(place)) == 2


def test_another_dtype_base_or_adapter_is_measured_apart(place, tmp_path):
    other_base = BaseChoice(str(save_model(tiny_llama(seed=9), tmp_path / "other base")))
    other_adapter = str(save_adapter(tiny_llama(), tmp_path / "other adapter", seed=9))
    changes = [
        {},
        {"base": replace(place.base, dtype="bfloat16")},
        {"base": other_base},
        {"adapter": other_adapter},
    ]
    for change in changes:
        with replace(place, **change).attach() as live:
            calibrate(live, place.calibration)
    assert len(stored_files(place)) == len(changes)


def torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-50])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def exchanged(file: Path) -> None:
    save_file({"losses": np.ones(10)}, file)


@pytest.mark.parametrize("damage", [torn, emptied, exchanged])
def test_a_damaged_store_entry_is_measured_again(place, damage):
    with place.attach() as live:
        first = calibrate(live, place.calibration)
        damage(stored_files(place)[0])
        assert same(calibrate(live, place.calibration), first)
    assert len(stored_files(place)) == 1
    assert same(load_sensitivity(stored_files(place)[0]), first)


def test_cancelling_stores_nothing_and_leaves_the_model_usable(place):
    with place.attach() as live:
        with pytest.raises(Cancelled):
            calibrate(live, place.calibration, control=Control(cancelled=lambda: True))
        assert stored_files(place) == []
        measured = calibrate(live, place.calibration)
    with place.attach() as live:
        stored_files(place)[0].unlink()
        assert same(calibrate(live, place.calibration), measured)


def test_a_batch_size_of_zero_is_refused(place):
    # a recipe file may say so
    with place.attach() as live:
        refusal(DataError, calibrate, live, replace(place.calibration, batch_size=0))


def test_attaching_to_the_wrong_base_is_refused(place, tmp_path):
    wrong = BaseChoice(str(save_model(tiny_llama(intermediate_size=40), tmp_path / "wrong")))
    assert "adapter was trained on" in refusal(BaseModelError, replace(place, base=wrong).attach)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_measurement_that_does_not_fit_on_the_disk_is_told_and_kept_once_there_is_room(place, share):
    other = replace(place.calibration, seed=1)
    with place.attach() as live:
        calibrate(live, place.calibration)
        (file,) = stored_files(place)
        before = file.read_bytes()
        with files_of_at_most(int(share * len(before))):
            told = refusal(DataError, calibrate, live, other)
        assert os.strerror(errno.EFBIG) in told
        assert stored_files(place) == [file]
        assert file.read_bytes() == before
        measured = calibrate(live, other)
    (new,) = set(stored_files(place)) - {file}
    assert same(load_sensitivity(new), measured)
    assert file.read_bytes() == before


def test_what_is_finished_when_the_disk_is_full_is_cancelled_without_a_trace(place):
    def cancel(done, total):
        if done == 8:
            raise Cancelled

    with place.attach() as live:
        with files_of_at_most(1000), pytest.raises(Cancelled):
            calibrate(live, place.calibration, control=Control(progress=cancel))
        assert stored_files(place) == []
        calibrate(live, place.calibration)
    assert len(stored_files(place)) == 1


@pytest.mark.parametrize("ends", ["finished", "cancelled"])
def test_a_store_that_is_removed_meanwhile_is_made_anew(place, ends):
    removals = []

    def remove(done, total):
        if done == 8 and not removals:
            removals.append(done)
            shutil.rmtree(place.home)
            if ends == "cancelled":
                raise Cancelled

    with place.attach() as live:
        calibrate(live, replace(place.calibration, seed=1))
        if ends == "cancelled":
            with pytest.raises(Cancelled):
                calibrate(live, place.calibration, control=Control(progress=remove))
            resumed = []
            measured = calibrate(
                live, place.calibration, control=Control(resumed=lambda *counts: resumed.append(counts))
            )
            assert resumed == [(8, 10)]
        else:
            measured = calibrate(live, place.calibration, control=Control(progress=remove))
    assert removals == [8]
    (file,) = stored_files(place)
    assert same(load_sensitivity(file), measured)


@pytest.fixture
def open_to_all(place, monkeypatch) -> Iterator[Path]:
    """A folder that every account may reach, unlike pytest's, with the rows and the workbench's home in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copy(place.calibration.data, folder / "rows.jsonl")
        monkeypatch.setenv("SURGERY_HOME", str(folder / "home"))
        yield folder


@pytest.mark.parametrize(
    ("shut", "mode"),
    [("home/sensitivities", 0o555), ("home/sensitivities", 0o000), ("home", 0o000), ("", 0o555)],
    ids=["read-only", "closed", "closed home", "no home"],
)
def test_a_store_without_permission_is_told_and_takes_the_measurement_once_it_is_given(
    place, open_to_all, shut, mode
):
    plan = replace(place.calibration, data=str(open_to_all / "rows.jsonl"))
    folder = open_to_all / shut
    with place.attach() as live:
        kept = {}
        if shut:
            calibrate(live, replace(plan, seed=1))
            kept = {file: file.read_bytes() for file in (open_to_all / "home/sensitivities").iterdir()}
        folder.chmod(mode)
        with unprivileged():
            assert os.strerror(errno.EACCES) in refusal(SurgeryError, calibrate, live, plan)
        for each in (folder, *open_to_all.glob("home/sensitivities")):
            each.chmod(0o777)
        assert {file: file.read_bytes() for file in (open_to_all / "home/sensitivities").glob("*")} == kept
        with unprivileged():
            measured = calibrate(live, plan)
    files = set((open_to_all / "home/sensitivities").iterdir())
    (new,) = files - set(kept)
    assert same(load_sensitivity(new), measured)
    assert all(file.read_bytes() == content for file, content in kept.items())


def test_rows_too_long_to_measure_give_way_to_those_that_follow_in_the_shuffle(place, tmp_path):
    texts = [f"{i % 7}+{i}=" + "." * (30 if i % 3 == 0 else 0) for i in range(30)]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(json.dumps({"prompt": text, "answer": "1"}) for text in texts))
    plan = CalibrationPlan(str(data), 12, encoding=Encoding(max_length=20))
    order = [row for row in planned_rows(replace(plan, examples=30)).rows if len(row.prompt) < 20]
    with place.attach() as live:
        measured = calibrate(live, plan)
        found = calibration_slice(live, plan)
        again = calibrate(live, plan)
    assert [example.key for example in found.examples] == [row.key for row in order[:12]]
    assert measured.examples == 12
    lost = found.tried - 12
    assert measured.left_out == {"too long": lost}
    # what was seen is known again: the rows asked for and those that took a place
    assert set(measured.keys) == {seen_keys(row) for row in planned_rows(replace(plan, examples=12 + lost)).rows}
    assert again.keys == measured.keys
    assert measured.rows == rows_digest(planned_rows(plan).rows)


def test_a_stored_measurement_without_inputs_is_measured_again_and_has_them_then(place):
    seen = []
    control = Control(progress=lambda done, _: seen.append(done))
    with place.attach() as live:
        expected = calibrate(live, place.calibration, base=place.base)
        (stored,) = stored_files(place)
        save_sensitivity(replace(load_sensitivity(stored), inputs=None, answer_tokens=None), stored)
        again = calibrate(live, place.calibration, base=place.base, control=control)
    assert seen == [4, 8, 10]
    assert stored_files(place) == [stored]
    for found in (again, load_sensitivity(stored)):
        assert same(found, expected)
        assert found.answer_tokens.tolist() == expected.answer_tokens.tolist()
        for name, M in expected.inputs.answer.items():
            np.testing.assert_array_equal(found.inputs.answer[name], M)


def test_the_base_s_inputs_are_kept_beside_the_adapter_s_and_found_again(place):
    plan = replace(place.calibration, base_inputs=True)
    with place.attach() as live:
        own = calibrate(live, place.calibration, base=place.base)
        seen = []
        control = Control(progress=lambda done, _: seen.append(done))
        found = calibrate(live, plan, base=place.base, control=control)
        calibration = calibration_slice(live, plan)
        expected = measure_inputs(live, calibration, list(own.values), batch_size=plan.batch_size)
        again = calibrate(live, plan, base=place.base)
    assert seen == [10, 4, 8, 10]  # what is measured already, and one forward pass
    assert (own.inputs.base, found.inputs.base) == (False, True)
    for name, g in own.values.items():
        np.testing.assert_array_equal(found.values[name], g)
        for each in (found, again):
            np.testing.assert_array_equal(each.inputs.prompt[name], expected.prompt[name])
        assert not np.allclose(found.inputs.answer[name], own.inputs.answer[name]) or ".0." in name
    kept = {each.plan.base_inputs: each for each in stored_measurements(own.provenance.adapter)}
    assert set(kept) == {True, False}
    assert load_sensitivity(kept[True].file).inputs.base
