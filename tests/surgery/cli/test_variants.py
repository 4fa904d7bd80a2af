"""Variants that a command names: their controls, and one run of recipes, exports and other adapters together."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from surgery.adapter import in_scope, open_adapter
from surgery.cli import main
from surgery.data import Encoding, Margins, Row, calibration_rows, encode
from surgery.edits import EditPlan, edit_record, make_edit
from surgery.evaluation import BASE, BASELINE, SAME_ENERGY, SHAPE_CONTROLS, SHAPE_ONLY, summarise
from surgery.experiments import run_recipe, sigma_digest
from surgery.export import export
from surgery.policies import AbsSelect, RandomIndex, Rank
from surgery.recipes import dump_recipe, read_recipe
from surgery.runs import LATE, stored_run, stored_runs
from surgery.spectra import decompose
from tests.helpers.models import example_loss, merged, save_adapter, tiny_llama, tiny_tokenizer
from tests.helpers.rounding import assert_losses
from tests.helpers.workplace import ROWS, Workplace, workplace, write_rows, write_workplace


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return workplace(write_workplace(tmp_path), tmp_path / "home")


def words(place: Workplace, *more: str, adapter: str | None = None) -> list[str]:
    rows = ["--data", place.evaluation.data, "--limit", "6"]
    return ["evaluate", adapter or place.adapter, "--base", place.base.location, *rows, *more]


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> dict:
    assert main([*argv, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(list(argv)) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    return err


def recipe_file(place: Workplace, name: str, plan: EditPlan) -> str:
    recipe = replace(place.recipe(), edit=plan)
    (place.home.parent / name).write_text(dump_recipe(recipe), encoding="utf-8")
    return name


def edited_folder(place: Workplace, name: str, scope: str, energy: str = "none"):
    adapter = open_adapter(place.adapter)
    spectra = decompose(adapter)
    edit = make_edit(spectra, RandomIndex(amp=2.0, sup=0.1, seed=5), scope=scope, energy=energy)
    export(adapter, spectra, edit, name)
    return edit


def test_controls_follow_the_recipe_that_they_stand_beside(place, capsys):
    plan = EditPlan(AbsSelect(amp=1.6, sup=0.3), scope="attention-inputs", energy="none", sigma_min=0.01)
    record = told(capsys, *words(place, "--variant", recipe_file(place, "r.yaml", plan), "--random", "2"))
    assert list(record["variants"]) == [BASELINE, "r.yaml", "random 0", "random 1"]
    run = stored_run(record["run"])
    spectra = decompose(open_adapter(place.adapter))
    for seed in range(2):
        gates = RandomIndex(amp=1.6, sup=0.3, seed=seed)
        expected = make_edit(spectra, gates, scope="attention-inputs", energy="none", sigma_min=0.01)
        assert run.plan.variants[f"random {seed}"] == sigma_digest(expected)
        assert record["variants"][f"random {seed}"]["control_of"] == ["r.yaml"]
    group = run.plan.controls["r.yaml"]
    assert (group.random, group.scope, group.energy) == (("random 0", "random 1"), "attention-inputs", "none")
    assert record["variants"]["r.yaml"]["place"]["loss"]["controls"] == 2
    assert any("random controls of 'r.yaml'" in note for note in record["notes"])


def test_several_recipes_are_counted_among_their_own_controls_alone(place, capsys):
    plans = {
        "a.yaml": EditPlan(Rank(keep=2), scope="residual", energy="none"),
        "b.yaml": EditPlan(Rank(keep=1), scope="gate-up", energy="none"),
    }
    files = [recipe_file(place, name, plan) for name, plan in plans.items()]
    record = told(capsys, *words(place, "--variant", *files, "--random", "2"))
    variants = record["variants"]
    change = {name: found["changes"]["loss"]["mean"] for name, found in variants.items() if name != BASELINE}
    for name in plans:
        own = [f"random {seed} of {name}" for seed in range(2)]
        assert [variants[each]["control_of"] for each in own] == [[name], [name]]
        place_ = variants[name]["place"]["loss"]
        assert (place_["controls"], place_["beaten"]) == (2, sum(change[name] < change[each] for each in own))
    capsys.readouterr()
    assert main(["runs", record["run"]]) == 0
    text = capsys.readouterr().out
    assert "control of a.yaml" in text
    assert "control of b.yaml" in text


def test_scale_or_shape_adds_the_controls_of_each_recipe_and_tells_its_shares(place, capsys):
    plans = {
        "a.yaml": EditPlan(Rank(keep=2), scope="all", energy="none"),
        "b.yaml": EditPlan(Rank(keep=1), scope="gate-up", energy="none"),
    }
    files = [recipe_file(place, name, plan) for name, plan in plans.items()]
    record = told(capsys, *words(place, "--variant", *files, "--scale-or-shape", "--loss-only"))
    named = {name: {control: f"{control} of {name}" for control in SHAPE_CONTROLS} for name in plans}
    for name in plans:
        assert record["variants"][name]["shape_controls"] == named[name]
        assert set(record["variants"][name]["shares"]) == {SAME_ENERGY, SHAPE_ONLY}
    assert set(record["variants"]) == {BASELINE, *plans, *(n for each in named.values() for n in each.values())}
    capsys.readouterr()
    assert main(["runs", record["run"]]) == 0
    text = capsys.readouterr().out
    assert "Scale or shape, a.yaml, answer loss: " in text
    assert "Scale or shape, b.yaml, answer loss: " in text


def test_a_margin_named_before_is_judged_told_and_kept(place, capsys):
    file = recipe_file(place, "r.yaml", EditPlan(Rank(keep=2), scope="all", energy="none"))
    record = told(capsys, *words(place, "--variant", file, "--margin", "5points", "0.5nats"))
    assert {key: each["margin"] for key, each in record["variants"]["r.yaml"]["margins"].items()} == {
        "loss": 0.5,
        "exact": 0.05,
    }
    run = stored_run(record["run"])
    assert run.plan.margins == Margins(5.0, 0.5)
    verdicts = summarise(run.evaluation).variants["r.yaml"].margins
    assert record["variants"]["r.yaml"]["margins"]["loss"] == asdict(verdicts["loss"])
    assert LATE not in record["notes"]
    assert main(["runs", record["run"]]) == 0
    assert f"Non-inferiority, r.yaml, answer loss: {verdicts['loss'].verdict}: " in capsys.readouterr().out
    # the same rows with another margin: nobody can say any more that it was named before
    late = told(capsys, *words(place, "--variant", file, "--margin"))
    assert late["run"] != record["run"]
    assert stored_run(late["run"]).plan.margins == Margins()
    assert LATE in late["notes"]
    assert "'much' is no margin" in refused(capsys, *words(place, "--variant", file, "--margin", "much"))


def test_a_recipe_is_run_with_a_margin(place, capsys):
    name = recipe_file(place, "r.yaml", EditPlan(Rank(keep=2), scope="all", energy="none"))
    record = told(capsys, "run", name, "--out", "out", "--margin", "2points")
    assert record["evaluation"]["variants"]["edit"]["margins"].keys() == {"exact"}
    assert read_recipe("out/recipe.yaml").evaluation.margins == Margins(2.0, None)
    Path("bare.yaml").write_text(dump_recipe(replace(read_recipe(name), evaluation=None)), encoding="utf-8")
    assert "leave out --margin" in refused(capsys, "run", "bare.yaml", "--out", "o2", "--margin")


def test_a_recipe_is_run_with_the_controls_of_scale_and_shape(place, capsys):
    name = recipe_file(place, "r.yaml", EditPlan(Rank(keep=2), scope="all", energy="none"))
    record = told(capsys, "run", name, "--out", "out", "--scale-or-shape")
    assert set(SHAPE_CONTROLS) < set(record["evaluation"]["variants"])
    assert read_recipe("out/recipe.yaml").evaluation.scale_or_shape
    Path("bare.yaml").write_text(dump_recipe(replace(read_recipe(name), evaluation=None)), encoding="utf-8")
    assert "leave out --scale-or-shape" in refused(capsys, "run", "bare.yaml", "--out", "o2", "--scale-or-shape")


def test_random_controls_of_a_folder_under_the_functional_rule_are_refused_with_a_way_that_works(place, capsys):
    plan = EditPlan(RandomIndex(amp=2.0, seed=5), scope="all", energy="functional")
    recipe_file(place, "f.yaml", plan)
    told(capsys, "run", "f.yaml", "--out", "functional")
    said = refused(capsys, *words(place, "--variant", "functional", "--random", "1"))
    assert "functional energy" in said
    assert "functional" in told(capsys, *words(place, "--variant", "functional"))["variants"]
    record = told(capsys, *words(place, "--variant", "functional/recipe.yaml", "--random", "1"))
    assert "random 0" in record["variants"]


def test_an_adapter_of_q_and_v_alone_has_controls(place, capsys, tmp_path):
    folder = str(save_adapter(tiny_llama(), tmp_path / "q and v", targets=["q_proj", "v_proj"]))
    plan = EditPlan(Rank(keep=2), scope="attention-inputs", energy="none")
    recipe = replace(place.recipe(), adapter=folder, edit=plan)
    Path("qv.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    record = told(capsys, *words(place, "--variant", "qv.yaml", "--random", "1", adapter=folder))
    assert record["variants"]["qv.yaml"]["place"]["loss"]["controls"] == 1


def test_folders_are_variants_of_one_run_under_their_names(place, capsys):
    edit = edited_folder(place, "mine", "all")
    other = save_adapter(tiny_llama(), place.home.parent / "stranger", seed=9)
    record = told(capsys, *words(place, "--variant", "mine", str(other), "--again"))
    assert [run.plan.key for run in stored_runs()] == [record["run"]], "one run, no unnamed one beside it"
    assert set(record["variants"]) == {BASELINE, "mine", "unedited, batched otherwise", "stranger"}
    run = stored_run(record["run"])
    # what is printed is what is kept
    again = told(capsys, "runs", record["run"])
    assert again == {name: value for name, value in record.items() if name != "format"}
    # plain merged models, one row at a time
    examples = run.evaluation.samples
    for name, folder in (("mine", Path("mine")), ("stranger", other)):
        model = merged(tiny_llama(), folder)
        expected = [loss_of(model, sample.prompt, sample.reference) for sample in examples]
        assert_losses(run.evaluation.scores[name].loss, np.array(expected), tiny_llama())
    assert any("'stranger' is no edit of this adapter" in note for note in record["notes"])
    assert sum(module.sigma.size for module in edit.modules.values()) > 0


def loss_of(model, prompt: str, answer: str) -> float:
    (example,) = encode([Row(prompt, answer)], tiny_tokenizer(), Encoding()).examples
    return example_loss(model, example).item()


def test_folders_of_one_name_and_of_a_control_are_told_apart(place, capsys):
    for parent in ("a", "b"):
        edited_folder(place, f"{parent}/edit", "all")
    shutil.copytree("a/edit", "random 0")
    record = told(capsys, *words(place, "--variant", "a/edit", "b/edit", "random 0"))
    assert list(record["variants"]) == [BASELINE, "variant edit", "b/edit", "variant random 0"]
    change = {
        name: found["changes"]["loss"]["mean"] for name, found in record["variants"].items() if name != BASELINE
    }
    assert len(set(change.values())) == 1
    assert change["b/edit"] != 0
    capsys.readouterr()
    assert main(["runs"]) == 0
    assert "; b/edit: loss " in capsys.readouterr().out


def test_a_folder_that_does_not_say_how_it_was_edited_gets_controls_over_what_differs(place, capsys):
    edit = edited_folder(place, "mine", r"layers\.1\.mlp")
    record = told(capsys, *words(place, "--variant", "mine", "--random", "2"))
    group = stored_run(record["run"]).plan.controls["mine"]
    spectra = decompose(open_adapter(place.adapter))
    assert in_scope(spectra, group.scope) == list(edit.modules)
    assert (group.energy, group.kind) == ("none", "shuffled gains")
    assert group.moved == pytest.approx(1.0, rel=1e-6)
    assert any("does not say by which rule it was edited" in note for note in record["notes"])


def test_another_adapter_gets_controls_over_the_modules_that_differ_or_in_the_scope_named(place, capsys):
    other = str(save_adapter(tiny_llama(), place.home.parent / "stranger", seed=9, targets=["v_proj"]))
    record = told(capsys, *words(place, "--variant", other, "--random", "1"))
    spectra = decompose(open_adapter(place.adapter))
    group = stored_run(record["run"]).plan.controls["stranger"]
    assert in_scope(spectra, group.scope) == [name for name in spectra if name.endswith("v_proj")]
    assert record["variants"]["stranger"]["place"]["loss"]["controls"] == 1
    record = told(capsys, *words(place, "--variant", other, "--random", "1", "--scope", "gate-up"))
    assert stored_run(record["run"]).plan.controls["stranger"].scope == "gate-up"


def test_where_no_module_is_in_scope_the_message_names_a_way_that_works(place, capsys):
    same = ["--variant", place.adapter, "--random", "1"]
    said = refused(capsys, *words(place, *same))
    assert "--scope all" in said
    assert stored_runs() == []
    record = told(capsys, *words(place, *same, "--scope", "all"))
    assert record["variants"]["random 0"]["changes"]["loss"]["mean"] != 0


def test_controls_without_a_variant_belong_to_no_edit(place, capsys):
    record = told(capsys, *words(place, "--random", "1", "--scope", "q_proj"))
    assert list(record["variants"]) == [BASELINE, "random 0"]
    assert "control_of" not in record["variants"]["random 0"]
    assert any("of no edit" in note for note in record["notes"])


def test_an_export_is_not_proven_on_the_rows_that_it_was_made_on_wherever_it_goes(place, capsys, tmp_path):
    run_recipe(place.recipe(scope="all", evaluation=None), "made")
    calibration = calibration_rows(place.calibration)
    spaced = [Row(f" {row.prompt}\n", row.answer) for row in calibration]
    elsewhere = Path(shutil.move("made", tmp_path / "elsewhere"))
    (elsewhere / "recipe.yaml").unlink()
    Path(place.calibration.data).unlink()
    # under another name, in another order, beside rows that it has not seen
    rows = write_rows(tmp_path / "mixed.jsonl", [*ROWS[30:36], *reversed(spaced)])
    argv = ["evaluate", place.adapter, "--base", place.base.location, "--data", rows, "--variant", str(elsewhere)]
    assert "10 of 16 evaluation rows were used for calibration or tuning of 'elsewhere'" in refused(capsys, *argv)
    assert stored_runs() == []
    record = told(capsys, *argv, "--limit", "6", "--random", "1")
    assert not any("not known" in note or "does not say" in note for note in record["notes"])
    assert stored_run(record["run"]).plan.edits["elsewhere"] == edit_record(EditPlan(scope="all"))


def test_what_edit_writes_is_held_to_its_rows_as_well(place, capsys):
    rows = ["--data", place.calibration.data, "--base", place.base.location]
    assert main(["calibrate", place.adapter, *rows, "--examples", "10", "--out", "g.safetensors"]) == 0
    edit = ["edit", place.adapter, "--policy", "grad_direction", "--energy", "none", "--scope", "v_proj"]
    assert main([*edit, "--sensitivities", "g.safetensors", "--out", "edited"]) == 0
    capsys.readouterr()
    said = refused(capsys, "evaluate", place.adapter, *rows, "--variant", "edited")
    assert "10 of 30 evaluation rows were used for calibration" in said
    record = told(capsys, *words(place, "--variant", "edited", "--random", "1"))
    group = stored_run(record["run"]).plan.controls["edited"]
    assert (group.energy, group.kind) == ("none", "random gates")
    redone = read_recipe("edited/recipe.yaml")
    assert (redone.base, redone.calibration.examples, redone.edit.scope) == (place.base, 10, "v_proj")


def test_a_folder_that_names_no_rows_says_that_they_are_not_known(place, capsys):
    edited_folder(place, "mine", "all")
    record = told(capsys, *words(place, "--variant", "mine"))
    assert any("does not say on which rows it was made" in note for note in record["notes"])


def test_an_export_of_an_earlier_version_has_its_rules_in_its_recipe(place, capsys):
    plan = EditPlan(AbsSelect(amp=1.6, sup=0.3), scope="all", energy="none")
    run_recipe(replace(place.recipe(), edit=plan, evaluation=None), "made")
    Path("made/surgery.json").unlink()
    record = told(capsys, *words(place, "--variant", "made", "--random", "1"))
    run = stored_run(record["run"])
    gates = RandomIndex(amp=1.6, sup=0.3)
    spectra = decompose(open_adapter(place.adapter))
    expected = make_edit(spectra, gates, scope="all", energy="none")
    assert run.plan.variants["random 0"] == sigma_digest(expected)


def test_the_base_answers_beside_variants_and_in_a_recipe_that_is_redone(place, capsys):
    plan = EditPlan(Rank(keep=2), scope="all", energy="none")
    name = recipe_file(place, "r.yaml", plan)
    record = told(capsys, *words(place, "--variant", name, "--base-arm", "--loss-only"))
    assert list(record["variants"]) == [BASELINE, name, BASE]
    again = told(capsys, "run", name, "--out", "out", "--base-arm")
    assert BASE in again["evaluation"]["variants"]
    assert read_recipe("out/recipe.yaml").evaluation.base_arm
    Path("bare.yaml").write_text(dump_recipe(replace(read_recipe(name), evaluation=None)), encoding="utf-8")
    said = refused(capsys, "run", "bare.yaml", "--out", "o2", "--base-arm", "--scale-or-shape")
    assert "leave out --scale-or-shape and --base-arm" in said
