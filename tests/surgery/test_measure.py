"""Calibrating an adapter on a tiny model, and the store of measurements."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from surgery.calibration import Encoding, choose
from surgery.errors import BaseModelError, Cancelled, DataError
from surgery.measure import calibrate, calibration_rows, calibration_slice, stored_sensitivity_file
from surgery.recipe import BaseChoice
from surgery.sensitivity import load_sensitivity
from tests.models import characters, save_adapter, save_model, tiny_llama, tiny_tokenizer
from tests.places import ROWS, forbid_measuring, refusal, stored_files


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
        measured = calibrate(live, place.calibration, progress=lambda done, total: seen.append((done, total)))
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
        second = calibrate(live, place.calibration, progress=lambda done, total: seen.append((done, total)))
    assert same(first, second)
    assert seen == [(10, 10)]


def test_another_batch_size_is_measured_apart(place):
    # it moves the last bits, and a recipe is to give the same bytes whatever else was measured before
    with place.attach() as live:
        calibrate(live, place.calibration)
        calibrate(live, replace(place.calibration, batch_size=7))
    assert len(stored_files(place)) == 2


@pytest.mark.parametrize(
    "change", [{"examples": 9}, {"seed": 1}, {"start": 1}, {"encoding": Encoding(separator=False)}], ids=str
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
            calibrate(live, place.calibration, cancelled=lambda: True)
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
