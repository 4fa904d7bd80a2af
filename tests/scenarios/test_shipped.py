"""What ships measured with a demo: found beside what was measured here, never in its stead, and never written to."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.evaluation.runs_table import controls_of
from surgery import open_adapter
from surgery.cli import run_record, runs_text
from surgery.data import calibration_rows, read_slices, rows_digest
from surgery.edits import EditPlan
from surgery.errors import DataError
from surgery.evaluation import AGAIN, SAME_ENERGY, SAME_NORM, summarise
from surgery.experiments import EDIT, Proof, prove, recipe_digest, rules_of, with_controls
from surgery.files import DEMO_FOLDER, demo_folder, demo_names, is_shipped
from surgery.model import attach
from surgery.progress import SILENT, Control
from surgery.recipes import Recipe, demo_plans, parse_recipe
from surgery.runs import LOG, METRICS, SAMPLES, delete_run, known_run, known_runs, stored_runs
from surgery.sensitivity import (
    calibrate,
    calibration_slice,
    delete_measurement,
    load_sensitivity,
    measure_sensitivity,
    shipped_measurements,
    stored_measurements,
)
from surgery.spectra import decompose
from tests.helpers.refusals import refusal
from tests.helpers.rounding import assert_losses, sensitivities_apart
from tests.helpers.workplace import Workplace, stored_files

DEMOS = [f"demo:{name}" for name in demo_names()]


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# what the two demos ship


@pytest.mark.parametrize("demo", DEMOS)
def test_a_demo_ships_sensitivities_of_its_own_adapter_base_and_rows(demo: str) -> None:
    adapter, (base, plan, _) = open_adapter(demo), demo_plans(demo)
    (found,) = shipped_measurements(adapter.digest)
    assert (found.plan, found.base, found.finished, found.shipped) == (plan, base, True, True)
    assert found.file.parent == demo_folder(demo)
    measured = load_sensitivity(found.file)
    assert measured.shipped
    assert measured.examples == found.examples == plan.examples == 128
    assert measured.rows == rows_digest(calibration_rows(plan))
    spectra = decompose(adapter)
    assert {name: g.shape for name, g in measured.values.items()} == {n: (128, s.rank) for n, s in spectra.items()}
    assert measured.provenance.scope == tuple(spectra)
    assert all(np.isfinite(g).all() and g.any() and g.dtype == np.float64 for g in measured.values.values())
    assert found.loss == pytest.approx(measured.losses.mean())


@pytest.mark.parametrize("demo", DEMOS)
def test_a_demo_ships_the_proof_of_the_edit_that_it_opens_with(demo: str) -> None:
    adapter, (base, calibration, held_out) = open_adapter(demo), demo_plans(demo)
    (run,) = [run for run in known_runs(adapter.digest) if run.shipped]
    rows = rows_digest(calibration_rows(calibration))
    recipe = Recipe(demo, adapter.digest, base, calibration, EditPlan(), calibration_digest=rows)
    assert run.finished
    assert run.plan.edit == recipe_digest(recipe) == recipe_digest(parse_recipe(run.recipe))
    assert run.plan.question["rows"]["data"] == held_out.data
    controls = [name for name in run.plan.variants if name.startswith("random")]
    assert len(controls) == 16
    assert {EDIT, AGAIN, "natural_gradient", "z_score"} < set(run.plan.variants)
    assert {SAME_NORM, SAME_ENERGY} & set(run.plan.variants), (
        "the scale control, of this version or an earlier one"
    )
    found = run.evaluation
    plan = replace(held_out, limit=run.plan.examples)
    assert [sample.key for sample in found.samples] == [
        row.key for row in read_slices([calibration], plan).held_out
    ]
    assert list(found.scores) == list(run.plan.variants)


@pytest.mark.parametrize("demo", DEMOS)
def test_the_numbers_of_a_shipped_proof_follow_from_its_samples(demo: str) -> None:
    (run,) = [run for run in known_runs(open_adapter(demo).digest) if run.shipped]
    for name, found in summarise(run.evaluation).variants.items():
        assert run.metrics.summary.variants[name].means == pytest.approx(found.means, rel=1e-12), name
    # the unedited adapter in other batches gives the same answers, and losses within rounding
    scores = run.evaluation.scores
    np.testing.assert_allclose(scores[AGAIN].loss, scores["unedited"].loss, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("demo", DEMOS)
def test_what_ships_is_small_and_says_nothing_of_the_machine_it_was_made_on(demo: str) -> None:
    folder = demo_folder(demo)
    runs = contents(folder / "runs")
    assert sum(map(len, runs.values())) < 1_000_000
    assert (folder / "sensitivity.safetensors").stat().st_size < 2_500_000
    assert LOG not in {file.name for file in runs}
    for file, data in runs.items():
        assert b"/home/" not in data, file
        assert b"/tmp/" not in data, file


@pytest.mark.demo
@pytest.mark.parametrize("demo", DEMOS)
def test_shipped_sensitivities_equal_a_fresh_measurement(demo: str) -> None:
    adapter, (base, plan, _) = open_adapter(demo), demo_plans(demo)
    (found,) = shipped_measurements(adapter.digest)
    shipped = load_sensitivity(found.file)
    with attach(adapter, decompose(adapter), base) as live:
        slice_ = calibration_slice(live, plan)
        # the rows, the tokens and the base are those that were measured
        assert slice_.digest == shipped.provenance.examples
        assert live.base.fingerprint == shipped.provenance.base
        few = replace(slice_, examples=slice_.examples[:16])
        fresh = measure_sensitivity(live, few, list(live.spectra), batch_size=plan.batch_size)
    expected = shipped.head(16)
    assert_losses(fresh.losses, expected.losses, live.model)
    for name, g in fresh.values.items():
        apart = np.linalg.norm(g - expected.values[name]) / np.linalg.norm(expected.values[name])
        assert apart < sensitivities_apart(live.model), name


# the store


@pytest.fixture
def ships(place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo folder of one adapter, that of the workplace, with the measurement of its plan; the store is empty."""
    folder = tmp_path / "demo" / "tiny"
    shutil.copytree(place.adapter, folder)
    with place.attach() as live:
        calibrate(live, place.calibration, base=place.base)
    (stored,) = stored_files(place)
    stored.rename(folder / "sensitivity.safetensors")
    monkeypatch.setattr("surgery.files.demo.DEMO_FOLDER", tmp_path / "demo")
    return folder


def test_a_shipped_measurement_is_found_by_its_adapter_alone(place: Workplace, ships: Path) -> None:
    digest = open_adapter(place.adapter).digest
    (found,) = shipped_measurements(digest)
    assert (found.file, found.plan, found.base) == (
        ships / "sensitivity.safetensors",
        place.calibration,
        place.base,
    )
    assert stored_measurements(digest) == []
    assert shipped_measurements("0" * 64) == []


def test_calibrating_measures_although_the_same_measurement_ships(place: Workplace, ships: Path) -> None:
    before, seen = contents(ships), []
    with place.attach() as live:
        control = Control(progress=lambda done, total: seen.append((done, total)))
        own = calibrate(live, place.calibration, base=place.base, control=control)
    assert seen == [(4, 10), (8, 10), (10, 10)]
    assert not own.shipped
    (stored,) = stored_measurements(own.provenance.adapter)
    assert not stored.shipped
    (shipped,) = shipped_measurements(own.provenance.adapter)
    there = load_sensitivity(shipped.file)
    assert there.provenance == own.provenance
    for name, g in own.values.items():
        np.testing.assert_array_equal(there.values[name], g)
    assert contents(ships) == before


def test_a_shipped_measurement_is_not_deleted(place: Workplace, ships: Path) -> None:
    (found,) = shipped_measurements(open_adapter(place.adapter).digest)
    assert "calibrate again" in refusal(DataError, delete_measurement, found)
    assert found.file.is_file()


def test_a_damaged_shipped_file_is_no_measurement(place: Workplace, ships: Path) -> None:
    file = ships / "sensitivity.safetensors"
    for data in (b"", b"\x08" * 40, file.read_bytes()[:-1]):
        file.write_bytes(data)
        assert shipped_measurements(open_adapter(place.adapter).digest) == []


def test_what_ships_is_read_where_a_server_may_use_other_folders_only(
    place: Workplace, ships: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURGERY_FOLDERS", str(tmp_path / "allowed"))
    assert load_sensitivity(ships / "sensitivity.safetensors").shipped
    secret = tmp_path / "secret.safetensors"
    shutil.copyfile(ships / "sensitivity.safetensors", secret)
    for outside in (secret, ships / ".." / ".." / secret.name):
        assert outside.is_file()
        assert "outside the folders" in refusal(DataError, load_sensitivity, outside)


def test_only_what_lies_below_the_demos_is_shipped() -> None:
    assert is_shipped(DEMO_FOLDER / "kinship" / "sensitivity.safetensors")
    assert not is_shipped(DEMO_FOLDER / ".." / "paper")
    assert not is_shipped(Path(f"{DEMO_FOLDER}-other") / "kinship")


# the history


@pytest.fixture
def proven(place: Workplace, ships: Path, history: Path) -> Path:
    """The folder of a run that ships with the demo, and of which this machine's history knows nothing."""
    prove_again(place)
    (own,) = history.iterdir()
    shutil.copytree(own, ships / "runs" / own.name, ignore=shutil.ignore_patterns(LOG))
    shutil.rmtree(own)
    return ships / "runs" / own.name


def prove_again(place: Workplace, seen: list[tuple[int, int]] | None = None) -> None:
    with place.attach() as live:
        plan = EditPlan()
        measured = calibrate(live, place.calibration, base=place.base)
        edits = {EDIT: (plan.apply(live.spectra, measured), rules_of(plan))}
        beside = with_controls(live.spectra, edits, random=2)
        recipe = place.recipe(calibration_digest=measured.rows)
        control = Control(progress=lambda done, total: seen.append((done, total))) if seen is not None else SILENT
        proof = Proof(
            place.evaluation,
            beside.edits,
            recipe.seen,
            plans={EDIT: plan},
            recipe=recipe,
            base=place.base,
            controls=beside.controls,
        )
        prove(live, proof, control=control)


def test_a_shipped_run_is_listed_beside_those_of_this_machine(place: Workplace, proven: Path) -> None:
    assert stored_runs() == []
    (run,) = known_runs(open_adapter(place.adapter).digest)
    assert run == known_run(proven.name)
    assert (run.folder, run.shipped, run.finished) == (proven, True, True)
    assert len(run.evaluation.samples) == place.evaluation.limit
    assert known_runs("0" * 64) == []
    assert run_record(run)["shipped"] is True
    assert "shipped with the demo" in runs_text([run])


def test_a_proof_is_run_although_the_same_one_ships_and_then_stands_in_its_place(
    place: Workplace, proven: Path
) -> None:
    before, seen = contents(proven), []
    prove_again(place, seen)
    assert len(seen) > 1
    (own,) = known_runs(open_adapter(place.adapter).digest)
    assert own.plan.key == proven.name
    assert not own.shipped
    assert "shipped" not in runs_text([own])
    assert known_run(proven.name) == own
    assert contents(proven) == before
    # one that was cut off hides nothing
    (own.folder / METRICS).unlink()
    assert sorted(run.shipped for run in known_runs()) == [False, True]
    assert known_run(proven.name).shipped
    delete_run(own)
    assert known_run(proven.name).shipped


def test_a_shipped_run_is_not_deleted(proven: Path) -> None:
    before = contents(proven)
    run = known_run(proven.name)
    assert "prove again" in refusal(DataError, delete_run, run)
    assert contents(proven) == before


def test_shipped_files_that_were_changed_are_no_run(proven: Path) -> None:
    samples = proven / SAMPLES
    kept = samples.read_bytes()
    samples.write_bytes(kept[:-1] + b"x")
    with pytest.raises(DataError):
        _ = known_run(proven.name).evaluation
    samples.write_bytes(kept)
    assert known_run(proven.name).evaluation.samples
    metrics = (proven / METRICS).read_text()
    (proven / METRICS).write_text(metrics.replace("loss", "lose", 1))
    assert known_run(proven.name) is None
    os.remove(proven / METRICS)
    assert known_run(proven.name) is None, "one that has not ended is none either: nobody could go on with it"


@pytest.mark.parametrize("demo", DEMOS)
def test_edits_of_another_rule_than_the_shipped_controls_are_marked_and_have_no_rank(demo: str) -> None:
    (run,) = [run for run in known_runs(open_adapter(demo).digest) if run.shipped]
    others = [
        name for name, edit in run.plan.edits.items() if edit["energy"] != "l1" or edit["scope"] != "residual"
    ]
    assert others
    assert list(run.plan.unlike_controls) == others
    found = summarise(run.evaluation)
    assert [name for name in run.plan.edits if not found.variants[name].ranks] == others
    assert all(rank.controls == 16 for rank in found.variants[EDIT].ranks.values())
    assert found.variants["random 3"].control_of == tuple(name for name in run.plan.edits if name not in others)
    assert any(others[0] in note and "Prove it again" in note for note in found.notes)
    assert f"than {', '.join(others)}" in runs_text([run])
    assert run_record(run)["unlike_controls"] == others
    assert controls_of(run) == f"of another scope or energy rule than {', '.join(others)}"
