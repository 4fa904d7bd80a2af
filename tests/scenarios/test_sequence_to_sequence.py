"""Sequence-to-sequence adapters from their folders to an export: measured against finite differences and PEFT.

Tiny models of several families with tokenizers of their kinds; nothing is fetched.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from surgery.adapter import open_adapter
from surgery.cli import main
from surgery.data import Calibration, CalibrationPlan, Encoding, EvaluationPlan, Row
from surgery.edits import EditPlan, make_edit
from surgery.evaluation import BASELINE
from surgery.experiments import Proof, prove
from surgery.export import export, peft_agreement
from surgery.model import BaseChoice, LiveModel, LoadedBase, attach, load_base
from surgery.policies import GradDirection, make_policy
from surgery.recipes import Recipe, dump_recipe
from surgery.sensitivity import Sensitivity, load_sensitivity, measure_sensitivity
from surgery.spectra import decompose
from tests.helpers.models import double, merged, relative, singular_triplets, with_peft
from tests.helpers.rounding import assert_losses, logits_apart, sensitivities_apart
from tests.helpers.seq2seq import KINDS, Kind, pair_loss

ROWS = [Row("ab 12: c", "d e"), Row("xyz", "q"), Row("a=b+c. what? 12345", "it is 6, then 7"), Row("two", "45")]
STEP = 1e-5
CONFIGS = Path(__file__).resolve().parents[3] / "shared" / "data" / "adapter_configs"


def measured(
    kind: Kind, model, folder: Path, *, batch_size: int = 4, **options
) -> tuple[Sensitivity, Calibration]:
    adapter = open_adapter(folder)
    base = LoadedBase(model, kind.tokenizer(), "tiny", "tiny", task=adapter.task)
    with LiveModel(base, adapter, decompose(adapter)) as live:
        rows = live.encode(ROWS, Encoding())
        return measure_sensitivity(live, rows, list(live.spectra), batch_size=batch_size, **options), rows


@pytest.fixture(params=["t5", "flan", "bart", "m2m", "mbart"])
def case(request, tmp_path):
    kind = KINDS[request.param]
    _, folder = kind.save(tmp_path)
    return kind, folder


def test_sensitivities_of_a_padded_batch_equal_finite_differences_in_encoder_and_decoder(case):
    kind, folder = case
    exact = double(kind())
    found, rows = measured(kind, double(kind()), folder)
    example, moved = rows.examples[1], merged(exact, folder)
    stacks = {part for name in found.values for part in ("encoder", "decoder") if part in name}
    assert stacks == {"encoder", "decoder"}
    with torch.no_grad():
        for name, (U, _, V) in singular_triplets(kind(), folder).items():
            weight, slopes = moved.get_submodule(name).weight, []
            for u, v in zip(U.T, V.T, strict=True):
                weight += STEP * torch.outer(u, v)
                above = pair_loss(moved, example)
                weight -= 2 * STEP * torch.outer(u, v)
                below = pair_loss(moved, example)
                weight += STEP * torch.outer(u, v)
                slopes.append(float(above - below) / (2 * STEP))
            np.testing.assert_allclose(found.values[name][1], slopes, rtol=1e-5, atol=1e-8, err_msg=name)


def test_losses_and_sensitivities_are_those_of_each_row_alone_through_peft(case):
    kind, folder = case
    found, rows = measured(kind, kind(), folder)
    reference = with_peft(kind(), folder)
    with torch.no_grad():
        assert_losses(found.losses, [pair_loss(reference, example).item() for example in rows.examples], kind())
    alone, _ = measured(kind, kind(), folder, batch_size=1)
    recomputed, _ = measured(kind, kind(), folder, batch_size=2, checkpointing=True)
    for name, g in alone.values.items():
        for other in (found, recomputed):
            assert relative(other.values[name], g) <= sensitivities_apart(kind(), 3.0), name


def test_an_edited_export_read_by_peft_gives_the_logits_of_the_preview(case, tmp_path):
    adapter = open_adapter(case[1])
    spectra, base = decompose(adapter), load_base(str(tmp_path / "base"), adapter=adapter)
    edit = make_edit(spectra, make_policy("random_index", {"amp": 2.0, "sup": 0.2}), scope="all")
    export(adapter, spectra, edit, tmp_path / "out")
    plan = CalibrationPlan(str(rows_file(tmp_path / "rows.jsonl", ROWS)), len(ROWS))
    error, count = peft_agreement(base, adapter, spectra, edit, tmp_path / "out", plan)
    assert count == len(ROWS)
    assert error < logits_apart(base.model)


def rows_file(file: Path, rows) -> Path:
    file.write_text("".join(json.dumps({"prompt": row.prompt, "answer": row.answer}) + "\n" for row in rows))
    return file


def sums(count: int, offset: int = 0) -> list[Row]:
    return [Row(f"add {n} and {n + 3}", f"{2 * n + 3}") for n in range(offset, offset + count)]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A base, an adapter and rows to measure and to hold out, and a store of one's own."""
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    base, adapter = KINDS["flan"].save(tmp_path)
    seen, held = rows_file(tmp_path / "seen.jsonl", sums(8)), rows_file(tmp_path / "held.jsonl", sums(6, 40))
    return {"base": str(base), "adapter": str(adapter), "seen": str(seen), "held": str(held), "out": tmp_path}


def told(capsys, *words: str) -> dict:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_command_goes_from_the_folder_to_an_edited_export(files, capsys):
    on = [files["adapter"], "--base", files["base"]]
    seen = ["--data", files["seen"], "--examples", "8"]
    preview = told(capsys, "calibrate", *on, *seen, "--preview")
    assert preview["rows"]
    g, out = str(files["out"] / "g.safetensors"), files["out"] / "edited"
    calibrated = told(capsys, "calibrate", *on, *seen, "--out", g)
    assert calibrated["examples"] == 8
    stored = load_sensitivity(Path(g))
    assert stored.provenance.encoding.template == "plain"
    told(capsys, "edit", files["adapter"], "--sensitivities", g, "--policy", "grad_direction", "--out", str(out))
    found = told(capsys, "evaluate", *on, "--data", files["held"], "--variant", str(out), "--random", "2")
    assert [metric["name"] for metric in found["measures"]] == ["loss", "exact"]
    assert found["examples"] == 6


def test_a_recipe_redoes_the_edit_byte_for_byte(files, capsys):
    recipe = Recipe(
        files["adapter"],
        "",
        BaseChoice(files["base"]),
        CalibrationPlan(files["seen"], 8),
        EditPlan(GradDirection(), scope="all"),
        EvaluationPlan(files["held"], 6, random=1),
    )
    (files["out"] / "recipe.yaml").write_text(dump_recipe(recipe))
    weights = []
    for name in ("first", "second"):
        told(capsys, "run", str(files["out"] / "recipe.yaml"), "--out", str(files["out"] / name))
        weights.append((files["out"] / name / "adapter_model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert open_adapter(files["out"] / "first").task == "SEQ_2_SEQ_LM"


def test_a_benchmark_of_lm_eval_is_refused_and_rows_are_the_way_out(files, capsys):
    assert main(["benchmark", files["adapter"], "--base", files["base"], "--task", "gsm8k"]) == 2
    refusal = capsys.readouterr().err
    assert "are put to causal language models here" in refusal
    assert "surgery evaluate" in refusal
    assert told(capsys, "evaluate", files["adapter"], "--base", files["base"], "--data", files["held"])


def test_a_task_that_is_not_run_is_edited_and_exported_all_the_same(files, capsys):
    file = Path(files["adapter"]) / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "task_type": "FEATURE_EXTRACTION"}))
    on = [files["adapter"], "--base", files["base"]]
    for words in (["calibrate", *on, "--data", files["seen"], "--examples", "8", "--preview"],
                  ["calibrate", *on, "--data", files["seen"], "--examples", "8", "--out", str(files["out"] / "g")],
                  ["evaluate", *on, "--data", files["held"]]):  # fmt: skip
        assert main(words) == 2
        refusal = capsys.readouterr().err
        assert "'FEATURE_EXTRACTION'" in refusal
        assert "edits by policies that read no sensitivities, and the export work without a run" in refusal
    assert told(capsys, "inspect", files["adapter"])
    out = files["out"] / "edited"
    told(
        capsys,
        "edit",
        files["adapter"],
        "--policy",
        "rank",
        "--keep",
        "1",
        "--scope",
        "all",
        "--out",
        str(out),
    )
    assert open_adapter(out).task == "FEATURE_EXTRACTION"


REAL = ("flan-t5-base_LORA_1", "Lora_example_t5_small__results2")


@pytest.mark.parametrize("end", REAL)
def test_configs_found_in_the_wild_are_calibrated_on_a_base_of_their_kind(end, tmp_path):
    found = list(CONFIGS.glob(f"*{end}.json"))
    if not found:
        pytest.skip("../shared/data/adapter_configs is not on this machine")
    config = json.loads(found[0].read_bytes())
    kind = KINDS["flan" if "flan" in end else "t5"]
    adapter = {"targets": config["target_modules"], "r": config["r"], "alpha": config["lora_alpha"]}
    _, folder = kind.save(tmp_path, **adapter)
    (folder / "adapter_config.json").write_bytes(found[0].read_bytes())
    sensitivity, rows = measured(kind, kind(), folder)
    reference = with_peft(kind(), folder)
    with torch.no_grad():
        expected = [pair_loss(reference, example).item() for example in rows.examples]
    assert_losses(sensitivity.losses, expected, kind())
    assert all(g.any() for g in sensitivity.values.values())


def test_where_the_checkpoint_makes_answers_begin_is_part_of_the_question(files):
    adapter = open_adapter(files["adapter"])
    with attach(adapter, decompose(adapter), BaseChoice(files["base"])) as live:
        proof = Proof(EvaluationPlan(files["held"], 3), {})
        keys = [prove(live, proof).plan.key]
        live.model.generation_config.forced_bos_token_id = 7
        forced = prove(live, proof)
        keys.append(forced.plan.key)
        assert len(set(keys)) == 2
        assert all(answer.startswith("d") for answer in forced.evaluation.scores[BASELINE].answers)
