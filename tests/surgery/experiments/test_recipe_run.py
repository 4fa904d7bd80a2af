"""A recipe redone from its file alone, on a tiny model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from surgery.adapter import open_adapter
from surgery.data import SAMPLED, EvaluationPlan, calibration_rows, read_source, seen_keys
from surgery.edits import make_edit
from surgery.errors import DataError, ExportError, RecipeError
from surgery.evaluation import AGAIN, BASELINE, CROSS_ENTROPY, KL_UNEDITED, SAME_ENERGY
from surgery.experiments import EDIT, GUARD, Proof, prove, recipe_digest, run_recipe
from surgery.export import export_recipe, read_record
from surgery.model import BaseChoice
from surgery.policies import GradDirection, Identity
from surgery.progress import Control
from surgery.recipes import read_recipe
from surgery.spectra import decompose
from tests.helpers.models import characters, relative, tiny_llama, with_peft
from tests.helpers.refusals import refusal
from tests.helpers.rounding import logits_apart, losses_apart
from tests.helpers.workplace import forbid_measuring, stored_files


def steps_of(steps: list[tuple[str, int, int]]) -> Control:
    """Notes every progress with its step."""
    name = ""

    def begin(step: str) -> None:
        nonlocal name
        name = step

    return Control(begin=begin, progress=lambda done, total: steps.append((name, done, total)))


def test_a_recipe_runs_from_calibration_to_export(place, tmp_path):
    steps = []
    recipe = place.recipe(scope="all")
    report = run_recipe(recipe, tmp_path / "out", control=steps_of(steps))
    assert list(dict.fromkeys(step for step, _, _ in steps)) == [
        "loading the base model",
        "calibrating",
        "evaluating",
    ]
    assert steps[-1][1:] == (6 * 6, 6 * 6)
    assert list(report.evaluation.scores) == [BASELINE, EDIT, SAME_ENERGY, "random 0", "random 1", AGAIN]
    assert report.verification.folder == tmp_path / "out"
    assert str(report.verification.loading) == (
        f"PEFT applies {len(report.edit.modules)} of {len(report.edit.modules)} modules to "
        f"{recipe.base.location} (LlamaForCausalLM)"
    )
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "recipe.yaml",
        "surgery.json",
    ]
    rows = calibration_rows(place.calibration)
    assert read_record(tmp_path / "out").rows == {"calibration": tuple(map(seen_keys, rows))}
    # what was evaluated is what was written
    ids = torch.tensor([characters("3+4=")])
    with place.attach() as live, torch.no_grad():
        live.set_sigma(report.edit.sigma_after)
        expected = with_peft(tiny_llama(), tmp_path / "out")(input_ids=ids).logits
        unedited = with_peft(tiny_llama(), Path(place.adapter))(input_ids=ids).logits
        assert relative(live.model(input_ids=ids).logits, expected) < logits_apart(live.model)
        assert (expected - unedited).abs().max() > 0.01


def test_a_gentle_edit_against_the_gradient_lowers_the_calibration_loss(place, tmp_path):
    gentle = GradDirection(eta_suppress=0.02, eta_enhance=0.02)
    report = run_recipe(place.recipe(policy=gentle, scope="all", energy="none", evaluation=None), tmp_path / "out")
    with place.attach() as live:
        before = report.sensitivity.losses.mean()
        plan = EvaluationPlan(place.calibration.data)
        keys = [row.key for row in calibration_rows(place.calibration)]
        found = prove(live, Proof(plan, {EDIT: report.edit})).evaluation
    rows = [i for i, sample in enumerate(found.samples) if sample.key in keys]
    assert abs(found.scores[BASELINE].loss[rows].mean() - before) <= losses_apart(tiny_llama(), before)
    assert found.scores[EDIT].loss[rows].mean() < before


def test_a_recipe_without_evaluation_gives_none(place, tmp_path):
    report = run_recipe(place.recipe(evaluation=None), tmp_path / "out")
    assert report.evaluation is None
    assert report.verification.edited == 6


def test_the_written_recipe_redoes_the_folder_byte_for_byte(place, tmp_path):
    run_recipe(place.recipe(evaluation=None), tmp_path / "first")
    written = read_recipe(tmp_path / "first" / "recipe.yaml")
    assert written.adapter_digest == open_adapter(place.adapter).digest
    for file in stored_files(place):
        file.unlink()
    run_recipe(written, tmp_path / "second")
    for file in (tmp_path / "first").iterdir():
        assert (tmp_path / "second" / file.name).read_bytes() == file.read_bytes(), file.name


def test_an_identity_recipe_writes_the_same_weights(place, tmp_path):
    run_recipe(place.recipe(policy=Identity(), scope="all", evaluation=None), tmp_path / "out")
    before, after = (load_file(Path(f) / "adapter_model.safetensors") for f in (place.adapter, tmp_path / "out"))
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_manual_gains_of_a_recipe_reach_the_edit(place):
    name = "model.layers.1.self_attn.o_proj"
    recipe = place.recipe(policy=Identity(), energy="none", manual={name: {2: 0.0}})
    spectra = decompose(open_adapter(place.adapter))
    edit = recipe.edit.apply(spectra, None)
    np.testing.assert_array_equal(edit.modules[name].gains, [1, 1, 0, 1])


def test_a_recipe_for_another_adapter_is_refused_before_the_base_is_loaded(place, tmp_path):
    recipe = place.recipe(adapter_digest="0" * 64, base=BaseChoice("/nowhere"))
    message = refusal(RecipeError, run_recipe, recipe, tmp_path / "out", control=Control(begin=pytest.fail))
    assert "another version" in message
    assert not (tmp_path / "out").exists()


def test_a_recipe_whose_slices_overlap_writes_nothing(place, tmp_path):
    recipe = place.recipe(evaluation=EvaluationPlan(place.calibration.data))
    assert "used for calibration" in refusal(DataError, run_recipe, recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_never_overwrites(place, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    adapter = open_adapter(place.adapter)
    spectra = decompose(adapter)
    edit = make_edit(spectra, Identity())
    refusal(ExportError, export_recipe, adapter, spectra, edit, place.recipe(), tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_an_output_folder_that_is_taken_is_refused_before_the_model_runs(place, tmp_path, monkeypatch):
    # a calibration and an evaluation can take long, and the edit they led to would be lost
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    forbid_measuring(monkeypatch)
    refusal(ExportError, run_recipe, place.recipe(), tmp_path / "out")


def test_rows_that_an_edit_was_tuned_on_prove_nothing(place, tmp_path):
    tuning = replace(place.calibration, data=place.evaluation.data, examples=2)
    message = refusal(DataError, run_recipe, place.recipe(tuning=tuning), tmp_path / "out")
    assert "tuning" in message


def test_rows_are_read_once_before_the_model_and_once_more_to_see_that_the_source_is_the_same(
    place, tmp_path, monkeypatch
):
    seen = []

    def counted(data, fields):
        seen.append((data, steps[-1] if steps else ""))
        return read_source(data, fields)

    for module in ("slices", "plans"):
        monkeypatch.setattr(f"surgery.data.{module}.read_source", counted)
    steps = []
    # the tuning rows are others of the file that has the calibration rows
    recipe = place.recipe(tuning=replace(place.calibration, start=10))
    run_recipe(recipe, tmp_path / "out", control=Control(begin=steps.append))
    rows, held_out = place.calibration.data, place.evaluation.data
    # and the tuning rows a last time, for the digests that the export carries
    assert seen == [(rows, ""), (held_out, ""), (rows, "evaluating"), (rows, "evaluating")]


def test_a_recipe_measures_its_protected_slices_and_bars_their_rows_from_the_proof(place, tmp_path):
    plain = place.recipe(scope="all")
    beside = replace(plain.calibration, start=plain.calibration.start + plain.calibration.examples)
    drawn = replace(beside, labels=SAMPLED)
    recipe = replace(plain, protected=(beside, drawn), evaluation=None, edit=replace(plain.edit, protect=True))
    report = run_recipe(recipe, tmp_path / "out")
    own, other = report.sensitivity.protected
    assert (own.label_free, other.label_free) == (False, True)
    step = {name: module.sigma_after - module.sigma for name, module in report.edit.modules.items()}
    slopes = sum(own.values[name].mean(axis=0) @ each for name, each in step.items())
    size = sum(np.abs(own.values[name].mean(axis=0)) @ np.abs(each) for name, each in step.items())
    assert slopes <= 1e-9 * size
    found = read_recipe(tmp_path / "out" / "recipe.yaml")
    assert found.protected_digests == (own.rows, other.rows)
    record = read_record(tmp_path / "out")
    assert set(record.rows) == {"calibration", "protected 1", "protected 2"}
    assert {row.key for row in calibration_rows(beside)} <= record.keys
    card = (tmp_path / "out" / "README.md").read_text()
    assert "protected slices" in card
    assert "without answers" in card
    again = run_recipe(found, tmp_path / "again")
    for file in (tmp_path / "out").iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name
    assert again.edit.sigma_after.keys() == report.edit.sigma_after.keys()
    barred = replace(plain, protected=(beside,), evaluation=EvaluationPlan(beside.data, encoding=beside.encoding))
    with pytest.raises(DataError, match="used for calibration"):
        run_recipe(barred, tmp_path / "barred")


def test_a_recipe_that_is_to_spare_nothing_named_is_refused_before_a_model_is_loaded(place, tmp_path, monkeypatch):
    forbid_measuring(monkeypatch)
    plain = place.recipe(scope="all")
    with pytest.raises(RecipeError, match="names none"):
        run_recipe(replace(plain, edit=replace(plain.edit, protect=True)), tmp_path / "out")


def test_guards_of_a_recipe_are_put_to_its_variants_and_written_again(place, text_plan, tmp_path):
    guards = (text_plan, replace(place.evaluation, start=6, limit=3, divergence=True))
    report = run_recipe(place.recipe(scope="all", guards=guards), tmp_path / "out")
    assert report.group is not None
    own, text, rows = report.group.runs
    assert own.evaluation.scores.keys() == report.evaluation.scores.keys()
    assert [run.plan.purpose for run in (text, rows)] == [GUARD, GUARD]
    assert {tuple(run.plan.variants.items()) for run in (text, rows)} == {tuple(own.plan.variants.items())}
    assert text.evaluation.metrics == rows.evaluation.metrics == (CROSS_ENTROPY, KL_UNEDITED)
    written = read_recipe(tmp_path / "out" / "recipe.yaml")
    assert written.guards == guards
    assert recipe_digest(written) == own.plan.edit == recipe_digest(replace(written, guards=()))


def test_guards_that_cannot_be_asked_are_refused_before_a_model_is_loaded(place, text_plan, tmp_path):
    nowhere = BaseChoice("/nowhere")
    seen = EvaluationPlan(place.calibration.data)
    for guard, said in ((seen, "were used for calibration"), (replace(text_plan, text="none.txt"), "no file at")):
        recipe = place.recipe(base=nowhere, guards=(guard,))
        assert said in refusal(DataError, run_recipe, recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
