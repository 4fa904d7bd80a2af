"""What version 0.1.0 wrote still opens: sensitivities, an unfinished measurement, a run, a recipe and a workspace.

`written_by_0_1_0` holds its files, made of a tiny model, and `expected.json` the numbers that it had in memory.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.state.saved import restore
from surgery.adapter import open_adapter
from surgery.cli import main
from surgery.data import APART, CalibrationPlan, Encoding, EvaluationPlan
from surgery.edits import EditPlan
from surgery.evaluation import BASELINE, SAME_ENERGY, SAME_NORM, summarise
from surgery.experiments import EDIT, Proof, prove, rules_of, with_controls
from surgery.model import LiveModel, attach
from surgery.policies import GradDirection, Rank
from surgery.progress import Control
from surgery.recipes import read_recipe
from surgery.runs import PROOF, stored_run, stored_runs
from surgery.sensitivity import (
    Sensitivity,
    calibrate,
    load_sensitivity,
    stored_measurements,
    stored_sensitivity_file,
)
from surgery.spectra import decompose
from tests.helpers.models import tiny_llama
from tests.helpers.rounding import assert_losses, sensitivities_apart

WRITTEN = Path(__file__).with_name("written_by_0_1_0")
EXPECTED: dict[str, Any] = json.loads((WRITTEN / "expected.json").read_text(encoding="utf-8"))
# prompt and answer tokenised apart, a space between them
APARTLY = Encoding(separator=True, tokenised=APART, tokenizer="base")
PLAN = CalibrationPlan("calibration.jsonl", examples=10, batch_size=4, encoding=APARTLY)
OF_THE_PART = replace(PLAN, seed=7)
EDITED = EditPlan(GradDirection(eta_suppress=0.5), manual={"model.layers.0.self_attn.o_proj": {0: 0.5}})


@pytest.fixture(autouse=True)
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files, which name each other relative to the folder that the work goes on in."""
    folder = tmp_path / "written"
    shutil.copytree(WRITTEN, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SURGERY_HOME", "home")
    monkeypatch.setattr("surgery.files.places.RUNS", "runs")
    return folder


@pytest.fixture
def live() -> LiveModel:
    adapter = open_adapter("adapter")
    return attach(adapter, decompose(adapter), read_recipe("recipe.yaml").base)


def assert_same_measurement(found: Sensitivity) -> None:
    assert found.provenance.key == EXPECTED["sensitivity"]["key"]
    assert float(found.losses.mean()) == EXPECTED["sensitivity"]["loss"]
    for name, mean in EXPECTED["sensitivity"]["mean"].items():
        assert found.statistics(name).mean.tolist() == mean


def test_a_saved_and_a_stored_sensitivity_have_the_numbers_that_were_measured():
    assert_same_measurement(load_sensitivity("saved.safetensors"))
    assert_same_measurement(load_sensitivity(stored_sensitivity_file(EXPECTED["sensitivity"]["key"], 4)))


def test_the_store_lists_the_whole_measurement_with_its_plan_and_no_part_that_cannot_go_on():
    (found,) = stored_measurements(open_adapter("adapter").digest)
    assert (found.plan, found.finished, found.done, found.examples) == (PLAN, True, 10, 10)
    assert found.loss == EXPECTED["sensitivity"]["loss"]
    assert found.is_of(read_recipe("recipe.yaml").base, found.plan)
    assert_same_measurement(load_sensitivity(found.file))


def test_asked_for_again_a_stored_measurement_gets_what_enters_the_modules_beside_the_same_numbers(live):
    stored = load_sensitivity(stored_sensitivity_file(EXPECTED["sensitivity"]["key"], 4))
    assert stored.inputs is None
    with live:
        found = calibrate(live, PLAN, base=read_recipe("recipe.yaml").base)
    assert found.provenance == stored.provenance
    assert set(found.inputs.prompt) == set(found.values)
    assert_losses(found.losses, stored.losses, tiny_llama())
    for name, g in stored.values.items():
        apart = np.linalg.norm(found.values[name] - g) / np.linalg.norm(g)
        assert apart <= sensitivities_apart(tiny_llama()), name


def test_a_stored_measurement_is_never_taken_for_one_of_rows_tokenised_whole(live):
    whole = replace(PLAN, encoding=Encoding(separator=True))
    with live:
        found = calibrate(live, whole)
    # the ids are the same here; what they are called by is not
    assert found.provenance.key != EXPECTED["sensitivity"]["key"]
    assert {each.plan for each in stored_measurements(live.adapter.digest)} == {PLAN, whole}


def test_an_unfinished_measurement_begins_anew_and_leaves_nothing_of_the_earlier_one(live, monkeypatch):
    parts = list(Path("home").rglob("*.part*"))
    assert parts
    told = []
    control = Control(resumed=lambda *numbers: told.append(numbers))
    with live:
        again = calibrate(live, OF_THE_PART, control=control)
        monkeypatch.setenv("SURGERY_HOME", "another-home")
        fresh = calibrate(live, OF_THE_PART)
    assert told == []
    assert not any(part.exists() for part in parts)
    assert again.provenance == fresh.provenance
    for name, g in fresh.values.items():
        np.testing.assert_array_equal(again.values[name], g)


def test_a_run_is_listed_and_has_its_scores_effects_and_metrics():
    (run,) = stored_runs()
    assert stored_run(EXPECTED["run"]["key"]) == run
    assert (run.plan.key, list(run.plan.variants)) == (EXPECTED["run"]["key"], EXPECTED["run"]["variants"])
    assert (run.plan.purpose, run.finished, run.done) == (PROOF, True, 6 * 6)
    found = run.evaluation
    assert {name: found.numbers(name, "loss").tolist() for name in found.scores} == EXPECTED["run"]["loss"]
    for name, (mean, standard_error) in EXPECTED["run"]["effect"].items():
        effect = found.effect(name, "loss")
        assert (effect.mean, effect.standard_error) == pytest.approx((mean, standard_error), rel=1e-12)
        assert run.metrics.summary.variants[name].changes["loss"].mean == mean
        # what is told of the answers now is what was told then
        told = summarise(found).variants[name]
        assert told.tests == run.metrics.summary.variants[name].tests
        assert told.ranks == run.metrics.summary.variants[name].ranks
    assert run.recipe == Path("recipe.yaml").read_text(encoding="utf-8")


def test_a_proof_of_the_same_question_is_the_run_that_was_written(live, monkeypatch):
    (known,) = stored_runs()
    # with other libraries the same question is another one
    monkeypatch.setattr("surgery.experiments.proof.version", known.plan.settings.__getitem__)
    recipe, sensitivity = read_recipe("recipe.yaml"), load_sensitivity("saved.safetensors")
    edit = recipe.edit.apply(live.spectra, sensitivity)
    beside = with_controls(live.spectra, {EDIT: (edit, rules_of(recipe.edit))}, random=2)
    proof = Proof(
        recipe.evaluation,
        beside.edits,
        [recipe.calibration],
        plans={EDIT: recipe.edit},
        recipe=recipe,
        again=True,
        base=recipe.base,
        controls=beside.controls,
    )
    monkeypatch.setattr("surgery.experiments.proof.begin", pytest.fail)
    with live:
        found = prove(live, proof)
    assert found.plan == known.plan
    assert found.evaluation.numbers(BASELINE, "loss").tolist() == EXPECTED["run"]["loss"][BASELINE]


def test_a_recipe_says_what_it_said_and_makes_the_same_gains():
    recipe = read_recipe("recipe.yaml")
    assert (recipe.adapter, recipe.adapter_digest) == ("adapter", open_adapter("adapter").digest)
    assert (recipe.calibration, recipe.edit) == (PLAN, EDITED)
    assert recipe.evaluation == EvaluationPlan("held-out.jsonl", limit=6, random=2, encoding=APARTLY)
    edit = recipe.edit.apply(decompose(open_adapter("adapter")), load_sensitivity("saved.safetensors"))
    assert list(edit.modules) == list(EXPECTED["gains"])
    for name, gains in EXPECTED["gains"].items():
        # of the singular values of another processor the last bits differ
        np.testing.assert_allclose(edit.modules[name].gains, gains, rtol=1e-12)


def test_a_recipe_is_redone_by_the_command(written, capsys):
    assert main(["run", "recipe.yaml", "--out", "out", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (note,) = said["notes"]
    assert "apart" in note
    # what enters the modules is measured now, so the scale control holds the functional energy
    expected = {SAME_ENERGY if name == SAME_NORM else name for name in EXPECTED["run"]["variants"]}
    assert set(said["evaluation"]["variants"]) == expected
    for name in expected - {SAME_ENERGY}:
        losses = EXPECTED["run"]["loss"][name]
        assert_losses(said["evaluation"]["variants"][name]["means"]["loss"], np.mean(losses), tiny_llama())
    assert open_adapter("out").digest != open_adapter("adapter").digest


def test_a_workspace_comes_back_with_its_history_its_shelf_and_its_measurement():
    found = restore("0123456789ab")
    assert [step.label for step in found.history.steps] == EXPECTED["workspace"]["labels"]
    assert (found.history.at, found.history.present) == (EXPECTED["workspace"]["at"], EDITED)
    assert found.shelf == {"mine": EditPlan(Rank(keep=2), energy="none")}
    assert (found.calibration, found.evaluation) == (PLAN, read_recipe("recipe.yaml").evaluation)
    assert_same_measurement(found.sensitivity)
    for name, gains in EXPECTED["gains"].items():
        np.testing.assert_allclose(found.edit.modules[name].gains, gains, rtol=1e-12)
