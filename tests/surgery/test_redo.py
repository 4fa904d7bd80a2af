"""The steps of a recipe on a tiny model: the store of measurements, the proof, and the whole run."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from surgery.adapter import open_adapter
from surgery.calibration import Encoding, Row, choose, encode
from surgery.edit import make_edit
from surgery.errors import BaseModelError, Cancelled, DataError, ExportError, RecipeError
from surgery.evaluate import evaluate
from surgery.evaluation import AGAIN, BASELINE
from surgery.measure import attach, calibrate, calibration_rows, calibration_slice, stored_sensitivity_file
from surgery.policy import AbsSelect, GradDirection, Identity, RandomIndex
from surgery.proof import EDIT, SAME_NORM, held_out_rows, prove, random_controls
from surgery.recipe import BaseChoice, CalibrationPlan, EditPlan, EvaluationPlan, Recipe, read_recipe
from surgery.redo import export_recipe, run_recipe
from surgery.sensitivity import load_sensitivity
from surgery.spectrum import decompose
from tests.models import characters, save_adapter, save_model, tiny_llama, tiny_tokenizer, with_peft

ROWS = [Row(f"{a}+{b}=", str(a + b)) for a in range(8) for b in range(6)]


@dataclass(frozen=True)
class Workplace:
    """Folders of a base and an adapter, two slices without a shared row, and the plans for them."""

    base: BaseChoice
    adapter: str
    calibration: CalibrationPlan
    evaluation: EvaluationPlan
    home: Path

    def attach(self):
        adapter = open_adapter(self.adapter)
        return attach(adapter, decompose(adapter), self.base)

    def recipe(self, **changes) -> Recipe:
        """A recipe of this place; settings of its edit are given by their own names."""
        names = {field.name for field in fields(EditPlan)}
        edit = EditPlan(**{name: changes.pop(name) for name in names & set(changes)})
        whole = Recipe(self.adapter, "", self.base, self.calibration, edit, self.evaluation)
        return replace(whole, **changes)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    save_model(tiny_llama(), folder / "base")
    save_adapter(tiny_llama(), folder / "adapter")
    write_rows(folder / "calibration.jsonl", ROWS[:30])
    write_rows(folder / "held-out.jsonl", ROWS[30:])
    return folder


@pytest.fixture
def place(files, tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    return Workplace(
        BaseChoice(str(files / "base")),
        str(files / "adapter"),
        CalibrationPlan(str(files / "calibration.jsonl"), examples=10, batch_size=4),
        EvaluationPlan(str(files / "held-out.jsonl"), limit=6, random=2),
        tmp_path / "home",
    )


def write_rows(file: Path, rows) -> str:
    file.write_text("".join(json.dumps({"prompt": row.prompt, "answer": row.answer}) + "\n" for row in rows))
    return str(file)


def quiet(step: str, done: int, total: int) -> None:
    """A report that nobody reads."""


def stored_files(place) -> list[Path]:
    return sorted((place.home / "sensitivities").glob("*"))


def refusal(kind, function, *arguments, **options) -> str:
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def same(first, second) -> bool:
    return (
        first.provenance == second.provenance
        and np.array_equal(first.losses, second.losses)
        and list(first.values) == list(second.values)
        and all(np.array_equal(g, second.values[name]) for name, g in first.values.items())
    )


def forbid_measuring(monkeypatch) -> None:
    def measured_again(*arguments, **options):
        pytest.fail("the model ran although the measurement is stored")

    monkeypatch.setattr("surgery.measure.measure_sensitivity", measured_again)


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


def test_random_controls_are_seeded_named_and_all_different(place):
    spectra = decompose(open_adapter(place.adapter))
    controls, again = random_controls(spectra, 4), random_controls(spectra, 4)
    assert list(controls) == ["random 0", "random 1", "random 2", "random 3"]
    drawn = set()
    for name, control in controls.items():
        assert len(control.modules) == 6, "the residual writers of three layers by default"
        for module, edit in control.modules.items():
            np.testing.assert_array_equal(again[name].modules[module].gains, edit.gains)
        drawn.add(np.concatenate([edit.gains for edit in control.modules.values()]).tobytes())
    assert len(drawn) == 4


def test_random_controls_move_as_much_as_the_selection_they_stand_beside(place):
    policy = AbsSelect(core_frac=0.5, noise_frac=0.25, amp=1.5, sup=0.5, mid=0.9)
    assert RandomIndex().amp != policy.amp, "the default gates would not show it"
    with place.attach() as live:
        measured = calibrate(live, place.calibration)
        edit = make_edit(live.spectra, policy, sensitivity=measured, scope="all", energy="none")
        controls = random_controls(live.spectra, 2, like=policy, scope="all", energy="none")
    for control in controls.values():
        for name, module in control.modules.items():
            np.testing.assert_allclose(np.sort(module.gains), np.sort(edit.modules[name].gains))


def test_evaluation_rows_that_calibrated_are_refused(place, files, tmp_path):
    mixed = write_rows(tmp_path / "mixed.jsonl", [*ROWS[30:33], *ROWS[:30]])
    with place.attach() as live:
        message = refusal(
            DataError, prove, live, EvaluationPlan(mixed), [place.calibration], {}, progress=pytest.fail
        )
        assert "10 of 33 evaluation rows were used for calibration" in message


def test_any_of_several_calibrations_is_looked_at(place, tmp_path):
    other = write_rows(tmp_path / "other.jsonl", ROWS[33:36])
    plans = [place.calibration, CalibrationPlan(other, examples=3)]
    with place.attach() as live:
        assert "3 of 6" in refusal(DataError, prove, live, place.evaluation, plans, {})


def test_content_decides_whether_a_row_is_shared_not_file_or_white_space(place, tmp_path):
    spaced = [Row(f"  {row.prompt}\n", f" {row.answer} ") for row in ROWS[:30]]
    plan = EvaluationPlan(write_rows(tmp_path / "spaced.jsonl", spaced))
    with place.attach() as live:
        assert "10 of 30" in refusal(DataError, prove, live, plan, [place.calibration], {})


def test_rows_that_the_calibration_left_out_may_be_evaluated(place):
    kept = {row.key for row in calibration_rows(place.calibration)}
    unused = [row for row in ROWS[:30] if row.key not in kept]
    plan = EvaluationPlan(write_rows(place.home.parent / "unused.jsonl", unused), limit=3)
    with place.attach() as live:
        found = prove(live, plan, [place.calibration], {}).evaluation
    assert [sample.key for sample in found.samples] == [row.key for row in unused[:3]]


def test_the_proof_scores_every_edit_on_rows_in_file_order(place):
    with place.attach() as live:
        edits = {"same": make_edit(live.spectra, Identity()), **random_controls(live.spectra, 2, scope="all")}
        found = prove(live, place.evaluation, [place.calibration], edits).evaluation
    assert list(found.scores) == [BASELINE, "same", "random 0", "random 1"]
    assert [sample.key for sample in found.samples] == [row.key for row in ROWS[30:36]]
    assert (found.effect("same").mean, found.effect("same").low, found.effect("same").high) == (0, 0, 0)
    assert found.effect("random 0").mean != 0


def test_cancelling_the_proof_raises_and_leaves_the_adapter_as_it_was(place):
    with place.attach() as live:
        edits = random_controls(live.spectra, 1, scope="all")
        expected = prove(live, place.evaluation, [], {}).evaluation.scores[BASELINE].loss
        with pytest.raises(Cancelled):
            prove(live, place.evaluation, [], edits, cancelled=lambda: True)
        rows = held_out_rows(place.evaluation, [])
        slice_ = encode(rows, live.base.tokenizer, place.evaluation.encoding)
        again = evaluate(live, slice_, {}, batch_size=place.evaluation.batch_size).scores[BASELINE].loss
        np.testing.assert_array_equal(again, expected)


def test_a_recipe_runs_from_calibration_to_export(place, tmp_path):
    steps = []
    recipe = place.recipe(scope="all")
    report = run_recipe(recipe, tmp_path / "out", report=lambda *step: steps.append(step))
    assert list(dict.fromkeys(step for step, _, _ in steps)) == [
        "loading the base model",
        "calibrating",
        "evaluating",
    ]
    assert steps[-1][1:] == (6 * 6, 6 * 6)
    assert list(report.evaluation.scores) == [BASELINE, EDIT, SAME_NORM, "random 0", "random 1", AGAIN]
    assert report.verification.folder == tmp_path / "out"
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "recipe.yaml",
    ]
    # what was evaluated is what was written
    ids = torch.tensor([characters("3+4=")])
    with place.attach() as live, torch.no_grad():
        live.set_sigma(report.edit.sigma_after)
        expected = with_peft(tiny_llama(), tmp_path / "out")(input_ids=ids).logits
        unedited = with_peft(tiny_llama(), Path(place.adapter))(input_ids=ids).logits
        torch.testing.assert_close(live.model(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
        assert (expected - unedited).abs().max() > 0.01


def test_a_gentle_edit_against_the_gradient_lowers_the_calibration_loss(place, tmp_path):
    gentle = GradDirection(eta_suppress=0.02, eta_enhance=0.02)
    report = run_recipe(
        place.recipe(policy=gentle, scope="all", energy="none", evaluation=None), tmp_path / "out", report=quiet
    )
    with place.attach() as live:
        before = report.sensitivity.losses.mean()
        plan = EvaluationPlan(place.calibration.data)
        keys = [row.key for row in calibration_rows(place.calibration)]
        found = prove(live, plan, [], {EDIT: report.edit}).evaluation
    rows = [i for i, sample in enumerate(found.samples) if sample.key in keys]
    assert found.scores[BASELINE].loss[rows].mean() == pytest.approx(before, rel=1e-5)
    assert found.scores[EDIT].loss[rows].mean() < before


def test_a_recipe_without_evaluation_gives_none(place, tmp_path):
    report = run_recipe(place.recipe(evaluation=None), tmp_path / "out", report=quiet)
    assert report.evaluation is None
    assert report.verification.edited == 6


def test_the_written_recipe_redoes_the_folder_byte_for_byte(place, tmp_path):
    run_recipe(place.recipe(evaluation=None), tmp_path / "first", report=quiet)
    written = read_recipe(tmp_path / "first" / "recipe.yaml")
    assert written.adapter_digest == open_adapter(place.adapter).digest
    for file in stored_files(place):
        file.unlink()
    run_recipe(written, tmp_path / "second", report=quiet)
    for file in (tmp_path / "first").iterdir():
        assert (tmp_path / "second" / file.name).read_bytes() == file.read_bytes(), file.name


def test_an_identity_recipe_writes_the_same_weights(place, tmp_path):
    run_recipe(place.recipe(policy=Identity(), scope="all", evaluation=None), tmp_path / "out", report=quiet)
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
    message = refusal(RecipeError, run_recipe, recipe, tmp_path / "out", report=pytest.fail)
    assert "another version" in message
    assert not (tmp_path / "out").exists()


def test_a_recipe_whose_slices_overlap_writes_nothing(place, tmp_path):
    recipe = place.recipe(evaluation=EvaluationPlan(place.calibration.data))
    assert "used for calibration" in refusal(DataError, run_recipe, recipe, tmp_path / "out", report=quiet)
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
    refusal(ExportError, run_recipe, place.recipe(), tmp_path / "out", report=quiet)


def test_rows_that_an_edit_was_tuned_on_prove_nothing(place, tmp_path):
    tuning = replace(place.calibration, data=place.evaluation.data, examples=2)
    message = refusal(DataError, run_recipe, place.recipe(tuning=tuning), tmp_path / "out", report=quiet)
    assert "tuning" in message
