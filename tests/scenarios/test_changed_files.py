"""Files that change on disk after they were opened: noticed before anything is written."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan, calibration_rows
from surgery.edits import make_edit
from surgery.errors import AdapterError, DataError, RecipeError
from surgery.experiments import EDIT, Proof, prove, run_recipe
from surgery.export import export, export_recipe
from surgery.files import runs_folder, sensitivities_folder
from surgery.model import BaseChoice
from surgery.policies import GradDirection, Identity, RandomIndex
from surgery.progress import Control
from surgery.recipes import dump_recipe, parse_recipe, read_recipe
from surgery.runs import stored_runs
from surgery.sensitivity import calibrate
from surgery.spectra import decompose
from tests.helpers.refusals import refusal
from tests.helpers.workplace import ROWS, workplace, write_rows, write_workplace

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A workplace whose files may be changed."""
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    return workplace(write_workplace(tmp_path), tmp_path / "home")


def flipped(folder: Path) -> None:
    """The last byte of the weights is another: same length, same names, same header."""
    file = folder / WEIGHTS
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def retrained(folder: Path) -> None:
    """Another alpha, as of a second training into the same folder."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, "lora_alpha": 2 * config["lora_alpha"]}))


def files_below(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()] if folder.exists() else []


@pytest.mark.parametrize("change", [flipped, retrained])
def test_an_adapter_that_changed_is_noticed_before_anything_is_written(change, place, tmp_path):
    with place.attach() as live:
        edit = make_edit(live.spectra, RandomIndex())
        change(Path(place.adapter))
        asked = [
            lambda: export(live.adapter, live.spectra, edit, tmp_path / "out"),
            lambda: calibrate(live, place.calibration),
            lambda: prove(live, Proof(place.evaluation, {EDIT: edit})),
        ]
        for ask in asked:
            assert "have changed since they were opened" in refusal(AdapterError, ask)
    assert not (tmp_path / "out").exists()
    assert not files_below(sensitivities_folder())
    assert not files_below(runs_folder())
    # opened again, it is an adapter like any other
    adapter = open_adapter(place.adapter)
    spectra = decompose(adapter)
    assert export(adapter, spectra, make_edit(spectra, RandomIndex()), tmp_path / "out").edited


def test_an_adapter_that_was_saved_again_with_the_same_bytes_has_not_changed(place, tmp_path):
    adapter = open_adapter(place.adapter)
    spectra = decompose(adapter)
    for name in (WEIGHTS, CONFIG):
        file = Path(place.adapter) / name
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(data)
    assert export(adapter, spectra, make_edit(spectra, RandomIndex()), tmp_path / "out").edited


def test_an_edit_outlives_the_files_of_its_adapter(place, tmp_path):
    adapter = open_adapter(place.adapter)
    spectra = decompose(adapter)
    for name in (WEIGHTS, CONFIG):
        (Path(place.adapter) / name).unlink()
    assert export(adapter, spectra, make_edit(spectra, RandomIndex()), tmp_path / "out").edited


def test_an_adapter_that_is_being_saved_is_not_opened(place, monkeypatch):
    from surgery.adapter import weights

    original = weights.read_safetensors

    def saved_meanwhile(file: Path, *given: Any) -> Any:
        found = original(file, *given)
        flipped(file.parent)
        return found

    monkeypatch.setattr("surgery.adapter.weights.read_safetensors", saved_meanwhile)
    assert "changes while it is read" in refusal(AdapterError, open_adapter, place.adapter)


def measured(place):
    """An edit from a measurement, and the recipe of both."""
    with place.attach() as live:
        sensitivity = calibrate(live, place.calibration)
    adapter = open_adapter(place.adapter)
    spectra = decompose(adapter)
    edit = make_edit(spectra, GradDirection(), sensitivity=sensitivity)
    recipe = replace(place.recipe(adapter_digest=adapter.digest), calibration_digest=sensitivity.rows)
    return adapter, spectra, edit, recipe


@pytest.mark.parametrize("damage", ["another answer", "one row fewer", "no rows at all"])
def test_calibration_rows_that_changed_are_noticed_before_an_export(damage, place, tmp_path):
    adapter, spectra, edit, recipe = measured(place)
    rows = ROWS[:30]
    used = calibration_rows(place.calibration)[0]
    changed = {
        "another answer": [replace(row, answer="0") if row == used else row for row in rows],
        "one row fewer": rows[1:],
        "no rows at all": [],
    }
    write_rows(Path(place.calibration.data), changed[damage])
    said = refusal(DataError, export_recipe, adapter, spectra, edit, recipe, tmp_path / "out")
    assert "have changed since they were measured" in said
    assert not (tmp_path / "out").exists()
    write_rows(Path(place.calibration.data), rows)
    assert export_recipe(adapter, spectra, edit, recipe, tmp_path / "out").edited


def test_rows_that_are_not_of_the_slice_may_change(place, tmp_path):
    adapter, spectra, edit, recipe = measured(place)
    used = calibration_rows(place.calibration)
    rows = [row if row in used else replace(row, answer="0") for row in ROWS[:30]]
    assert rows != ROWS[:30]
    write_rows(Path(place.calibration.data), rows)
    assert export_recipe(adapter, spectra, edit, recipe, tmp_path / "out").edited


def test_an_edit_outlives_the_rows_that_it_was_measured_on(place, tmp_path):
    adapter, spectra, edit, recipe = measured(place)
    Path(place.calibration.data).unlink()
    assert export_recipe(adapter, spectra, edit, recipe, tmp_path / "out").edited


def test_the_rows_of_a_measurement_are_known_after_it_was_stored(place):
    with place.attach() as live:
        first = calibrate(live, place.calibration)
        again = calibrate(live, place.calibration)
    assert first.rows == again.rows != ""


def test_a_recipe_names_its_rows_and_is_not_redone_on_others(place, tmp_path):
    run_recipe(place.recipe(evaluation=None), tmp_path / "first")
    written = read_recipe(tmp_path / "first" / "recipe.yaml")
    assert written.calibration_digest
    assert parse_recipe(dump_recipe(written)) == written
    write_rows(Path(place.calibration.data), ROWS[1:31])
    elsewhere = replace(written, base=BaseChoice("/nowhere"))
    said = refusal(RecipeError, run_recipe, elsewhere, tmp_path / "second", control=Control(begin=pytest.fail))
    assert "restore the file" in said
    assert "digest" in said
    assert not (tmp_path / "second").exists()
    run_recipe(replace(written, calibration_digest=""), tmp_path / "second")
    assert read_recipe(tmp_path / "second" / "recipe.yaml").calibration_digest != written.calibration_digest


def test_held_out_rows_that_changed_are_another_question_and_leave_the_earlier_answers_alone(place):
    with place.attach() as live:
        edits = {EDIT: make_edit(live.spectra, Identity())}
        first = prove(live, Proof(place.evaluation, edits))
        before = {file: file.read_bytes() for file in files_below(first.folder)}
        write_rows(Path(place.evaluation.data), list(reversed(ROWS[30:])))
        second = prove(live, Proof(place.evaluation, edits))
    assert first.plan.key != second.plan.key
    assert {run.plan.key for run in stored_runs()} == {first.plan.key, second.plan.key}
    assert {file: file.read_bytes() for file in files_below(first.folder)} == before


def test_the_rows_of_a_policy_without_gradients_do_not_tell_its_proofs_apart(place):
    from surgery.experiments import recipe_digest

    plan = CalibrationPlan(place.calibration.data)
    for policy, same in ((RandomIndex(), True), (GradDirection(), False)):
        recipe = replace(place.recipe(policy=policy), calibration=plan)
        told = {recipe_digest(replace(recipe, calibration_digest=digest)) for digest in ("", "a", "b")}
        assert (len(told) == 1) is same
