"""`surgery edit`."""

import math
from dataclasses import replace

import numpy as np
import pytest

from surgery.adapter import open_adapter
from surgery.cli import main
from surgery.data import Encoding, calibration_rows, rows_digest, seen_keys
from surgery.edits import EditPlan
from surgery.export import read_record
from surgery.files import demo_folder
from surgery.policies import Clip, RandomIndex, Scale
from surgery.recipes import Recipe, demo_plans, read_recipe
from surgery.sensitivity import Provenance, Sensitivity, load_sensitivity, save_sensitivity
from surgery.spectra import decompose
from tests.helpers.models import save_adapter, save_model, tiny_llama
from tests.surgery.cli.conftest import strict


def test_edit_tells_how_many_modules_peft_applies_and_refuses_a_base_that_lacks_them(tmp_path, ok, fails, capsys):
    folder = save_adapter(tiny_llama(), tmp_path / "adapter", targets=["o_proj"])
    base, smaller = (
        save_model(tiny_llama(num_hidden_layers=layers), tmp_path / f"{layers} layers") for layers in (3, 2)
    )
    capsys.readouterr()  # bars of transformers
    words = ["edit", str(folder), "--policy", "random_index", "--json", "--base"]
    told = ok(*words, str(base), "--out", str(tmp_path / "out"))["peft"]
    assert (told["applied"], told["modules"], told["ignored"]) == (3, 3, [])
    assert told["text"] == f"PEFT applies 3 of 3 modules to {base} (LlamaForCausalLM)"
    line = fails(*words, str(smaller), "--out", str(tmp_path / "none"))
    assert "PEFT would apply 2 of 3 edited modules" in line
    assert not (tmp_path / "none").exists()


@pytest.fixture
def measured(small_adapter, tmp_path):
    """A sensitivity file for every module of the small adapter."""
    adapter = open_adapter(small_adapter)
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal((3, 4)) for name in adapter.modules}
    provenance = Provenance(adapter.digest, "base", "examples", Encoding(), tuple(values), "float32")
    file = tmp_path / "measured.safetensors"
    save_sensitivity(Sensitivity(values, np.ones(3), provenance), file)
    return file


def test_edit_writes_a_folder_and_says_what_it_wrote(small_adapter, tmp_path, ok):
    out = tmp_path / "out"
    words = ["--policy", "random_index", "--seed", "4", "--json"]
    record = ok("edit", str(small_adapter), "--out", str(out), *words)
    assert sorted(file.name for file in out.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "surgery.json",
    ]
    written = read_record(out)
    assert (written.adapter, written.edit) == (
        open_adapter(small_adapter).digest,
        EditPlan(RandomIndex(seed=4)),
    )
    assert (dict(written.rows), dict(written.measured)) == ({}, {})
    assert record["out"] == str(out)
    assert (record["modules"], record["edited_scalars"]) == (4, 16)
    assert (record["edited_tensors"], record["untouched_tensors"]) == (4, 8)
    # one amplified and one suppressed of four, rescaled: nothing keeps its exact place
    assert record["raised"] + record["lowered"] == 16
    assert record["silenced"] == 0
    assert record["predicted"] is None
    assert record["standard_error"] is None
    assert record["energy_kept"] == pytest.approx(1, rel=1e-12)
    assert 0 < record["rounding"] < 1e-6
    assert record["skipped"] == {}
    assert open_adapter(out).config == open_adapter(small_adapter).config


def test_edit_takes_a_strength_that_its_record_tells(small_adapter, tmp_path, ok):
    words = ["--policy", "scale", "--gamma", "0.5", "--strength", "0.5", "--json"]
    record = ok("edit", str(small_adapter), "--out", str(tmp_path / "half"), *words)
    assert record["energy_kept"] == pytest.approx(0.75, rel=1e-12)
    assert read_record(tmp_path / "half").edit == EditPlan(Scale(gamma=0.5), strength=0.5)


def test_edit_with_an_infinite_cap_says_so_in_its_record(small_adapter, tmp_path, ok):
    ok("edit", str(small_adapter), "--out", str(tmp_path / "out"), "--policy", "clip", "--cap", "inf", "--json")
    assert read_record(tmp_path / "out").edit == EditPlan(Clip(cap=math.inf))
    assert open_adapter(tmp_path / "out").digest == open_adapter(small_adapter).digest


def test_edit_with_a_scope_and_sensitivities_predicts_the_change(small_adapter, measured, tmp_path, ok):
    words = ["--sensitivities", str(measured), "--policy", "grad_direction", "--energy", "none"]
    scope = r"layers\.1\..*q_proj"
    record = ok("edit", str(small_adapter), "--out", str(tmp_path / "out"), "--scope", scope, "--json", *words)
    assert (record["modules"], record["edited_tensors"]) == (1, 1)
    assert record["predicted"] < 0
    assert record["standard_error"] > 0
    text = ok("edit", str(small_adapter), "--out", str(tmp_path / "text"), "--scope", scope, *words)
    assert "predicted change" in text
    assert str(tmp_path / "text") in text


def test_edit_with_identity_gives_an_adapter_of_the_same_content(small_adapter, tmp_path, ok):
    record = ok("edit", str(small_adapter), "--out", str(tmp_path / "out"), "--policy", "identity", "--json")
    assert (record["edited_tensors"], record["rounding"]) == (0, 0)
    assert open_adapter(tmp_path / "out").digest == open_adapter(small_adapter).digest


def test_edit_of_a_demo_takes_the_sensitivities_that_ship_with_it_and_says_so(tmp_path, capsys, ok):
    words = ["edit", "demo:kinship", "--policy", "grad_direction", "--json", "--out"]
    assert main([*words, str(tmp_path / "shipped")]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "without --sensitivities: taking those that ship with the demo, measured on 128 examples"
    ]
    assert strict(out)["predicted"] < 0
    named = str(demo_folder("demo:kinship") / "sensitivity.safetensors")
    ok(*words, str(tmp_path / "named"), "--sensitivities", named)
    for file in (tmp_path / "named").iterdir():
        assert (tmp_path / "shipped" / file.name).read_bytes() == file.read_bytes(), file.name
    # what is written names the rows that were measured, and the recipe that redoes it
    adapter, (base, calibration, _) = open_adapter("demo:kinship"), demo_plans("demo:kinship")
    rows = calibration_rows(calibration)
    record = read_record(tmp_path / "shipped")
    assert record.rows == {"calibration": tuple(map(seen_keys, rows))}
    assert {row.key for row in rows} <= record.keys
    recipe = read_recipe(tmp_path / "shipped" / "recipe.yaml")
    expected = Recipe("demo:kinship", adapter.digest, base, calibration, EditPlan())
    assert recipe == replace(expected, calibration_digest=rows_digest(rows))
    # a policy that needs none takes none
    ok("edit", "demo:kinship", "--policy", "scale", "--json", "--out", str(tmp_path / "scaled"))


def test_a_truncation_keeps_the_largest_value_and_a_rule_that_moves_it_is_told(small_adapter, tmp_path, ok):
    words = ["edit", str(small_adapter), "--policy", "rank", "--keep", "1", "--scope", "all", "--out"]
    record = ok(*words, str(tmp_path / "free"), "--json")
    assert (record["energy"], record["raised"], record["largest"]["most"]) == ("none", 0, 1)
    before, after = (decompose(open_adapter(at)) for at in (small_adapter, tmp_path / "free"))
    for name, spectrum in after.items():
        # one rounding of every entry of B to float32 moves σ₁ by less than that of its norm
        assert spectrum.sigma[0] == pytest.approx(before[name].sigma[0], rel=len(spectrum.U) * 2.0**-24)
    record = ok(*words, str(tmp_path / "held"), "--energy", "l1", "--json")
    assert record["largest"]["most"] == pytest.approx(max(s.sigma.sum() / s.sigma[0] for s in before.values()))
    text = ok(*words, str(tmp_path / "told"), "--energy", "l1")
    assert f"under energy rule l1, most in {record['largest']['module']}" in text


def test_a_refused_edit_writes_nothing(small_adapter, measured, tmp_path, write_adapter, lora_tensors, fails):
    other = write_adapter(lora_tensors({"layers.0.o_proj": (6, 4, 5)}))
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("keep")
    (tmp_path / "text").write_text("no sensitivities")
    before = sorted(tmp_path.rglob("*"))
    adapter, out = str(small_adapter), ["--out", str(tmp_path / "out")]
    random, direction = ["--policy", "random_index"], ["--policy", "grad_direction"]
    for words, said in [
        (["edit", str(tmp_path / "nowhere"), *out, *random], "no folder"),
        (["edit", str(tmp_path), *out, *random], "adapter_config.json"),
        (["edit", "demo:nothing", *out, *random], "demo"),
        (["edit", adapter, *random], "--out"),
        (["edit", *out, *random], "adapter"),
        (["edit", adapter, *out], "--policy"),
        (["edit", adapter, *out, *direction], "calibrate"),
        (["edit", adapter, *out, *direction, "--sensitivities", str(tmp_path / "nowhere")], "sensitivity"),
        (["edit", adapter, *out, *direction, "--sensitivities", str(tmp_path / "text")], "sensitivity"),
        (["edit", str(other), *out, *direction, "--sensitivities", str(measured)], "another adapter"),
        (["edit", adapter, *out, *random, "--scope", "nothing"], "scope"),
        (["edit", adapter, *out, *random, "--scope", "("], "scope"),
        (["edit", adapter, *out, *random, "--energy", "l3"], "l3"),
        (["edit", adapter, *out, *random, "--eta", "1"], "eta"),
        (["edit", adapter, "--out", str(full), *random], "exists"),
        (["edit", adapter, "--out", str(full / "mine"), *random], "exists"),
        (["edit", adapter, "--out", str(full / "mine" / "below"), *random], "written"),
        (["edit", adapter, "--out", adapter, *random], "exists"),
        (["edit", adapter, "--out", str(tmp_path / ("x" * 300)), *random], "xxx"),
    ]:
        assert said in fails(*words, "--json"), words
    assert sorted(tmp_path.rglob("*")) == before
    assert (full / "mine").read_text() == "keep"


def test_an_edit_in_the_default_scope_of_an_adapter_without_residual_writers_says_that_it_took_all(
    write_adapter, lora_tensors, tmp_path, ok
):
    names = ["layers.0.attention.q_lin", "layers.0.attention.v_lin"]
    folder = str(write_adapter(lora_tensors(dict.fromkeys(names, (6, 4, 5)))))
    words = ["edit", folder, "--policy", "random_index", "--out"]
    record = ok(*words, str(tmp_path / "out"), "--json")
    (note,) = record["notes"]
    assert "the scope residual takes all 2 modules" in note
    assert record["modules"] == 2
    assert f"note: {note}" in ok(*words, str(tmp_path / "text"))
    assert ok(*words, str(tmp_path / "named"), "--scope", "all", "--json")["notes"] == []
    assert note in ok("inspect", folder, "--json")["notes"]


def test_edit_spares_the_slices_of_the_files_kept_beside(small_adapter, measured, tmp_path, ok, fails):
    own = load_sensitivity(measured)
    turned = replace(own, values={name: -g for name, g in own.values.items()})
    beside = tmp_path / "beside.safetensors"
    save_sensitivity(turned, beside)
    words = ["edit", str(small_adapter), "--sensitivities", str(measured), "--policy", "grad_direction", "--scope"]
    words += ["all", "--energy", "none", "--json", "--out"]
    assert ok(*words, str(tmp_path / "free"), "--protected", str(beside))["predicted"] < 0
    # what helps the one slice hurts the other, whose slopes are the opposite: nothing is left to gain
    record = ok(*words, str(tmp_path / "spared"), "--protect", "--protected", str(beside))
    assert abs(record["predicted"]) < 1e-9
    assert read_record(tmp_path / "spared").edit.protect
    assert "there is none" in fails(*words, str(tmp_path / "none"), "--protect")
    foreign = replace(own, provenance=replace(own.provenance, adapter="another"))
    save_sensitivity(foreign, beside)
    assert "another adapter" in fails(*words, str(tmp_path / "other"), "--protected", str(beside))
