"""A sweep over a task of lm-eval: its cells are the benchmark's numbers, whoever asks."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan, TaskPlan
from surgery.edits import Edit, EditPlan, make_edit
from surgery.evaluation import BASELINE, holm, mcnemar
from surgery.evaluation.lm_eval import benchmark, load_task
from surgery.experiments import Proof, prove
from surgery.experiments.sweeps import Swept, check, expand, in_process, parse_sweep, results, run_sweep
from surgery.model import BaseChoice, attach
from surgery.policies import GradDirection, RandomIndex
from surgery.recipes import Recipe, dump_recipe
from surgery.sensitivity import calibrate
from surgery.spectra import decompose
from tests.helpers.models import save_adapter, save_model, tiny_llama
from tests.helpers.workplace import ROWS, write_rows

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install -r requirements.txt")
METRIC = "acc,none"
WORDS = ["red", "blue", "green", "one", "two", "three", "four", "five", "six", "seven"]
LIMIT = 6


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    save_model(tiny_llama(max_position_embeddings=2048), folder / "base")
    save_adapter(tiny_llama(max_position_embeddings=2048), folder / "adapter", scale=0.6)
    rng = np.random.default_rng(0)
    questions = []
    for number in range(8):
        *others, right = rng.permutation(WORDS)[:4].tolist()
        question = {
            "support": "",
            "question": f"which word is number {number} of this list?",
            "correct_answer": right,
        }
        questions.append(question | {f"distractor{i + 1}": word for i, word in enumerate(others)})
    (folder / "questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    write_rows(folder / "rows.jsonl", ROWS[:8])
    asked = [{"prompt": question["question"], "answer": "a"} for question in questions[2:]]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def task(files) -> TaskPlan:
    return TaskPlan("sciq", LIMIT, data_files={"test": str(files / "questions.jsonl")})


def swept_from(files, rows: str = "rows") -> Swept:
    questions = {"task": "sciq", "limit": LIMIT, "data_files": dict(task(files).data_files or {})}
    record = {
        "sweep": 1,
        "base": {"location": str(files / "base")},
        "calibration": {"data": str(files / f"{rows}.jsonl"), "batch_size": 4},
        "adapters": {"tiny": str(files / "adapter")},
        "tasks": {"questions": questions},
        "edits": [
            {
                "policies": [
                    {"policy": "grad_direction", "knobs": {"eta_suppress": 3.0, "eta_enhance": 3.0}},
                    {"policy": "random_index", "knobs": {"amp": 3.0, "sup": 0.0}},
                ],
                "scopes": ["all"],
                "energies": ["none"],
                "budgets": [2, 4],
            }
        ],
        "variants_at_once": 2,
        "attempts": 2,
    }
    plan = expand(parse_sweep(yaml.safe_dump(record)))
    check(plan)
    return run_sweep(plan, in_process)


def edits_of(live, files) -> dict[str, Edit]:
    """The same edits by hand, under the names that the sweep gives them."""
    random = RandomIndex(amp=3.0, sup=0.0)
    gradient = GradDirection(eta_suppress=3.0, eta_enhance=3.0)
    made = {"random_index amp 3.0 sup 0.0, all, none": make_edit(live.spectra, random, scope="all", energy="none")}
    for budget in (2, 4):
        plan = CalibrationPlan(str(files / "rows.jsonl"), examples=budget, batch_size=4)
        measured = calibrate(live, plan)
        name = f"grad_direction eta_suppress 3.0 eta_enhance 3.0, all, none, {budget} examples"
        made[name] = make_edit(live.spectra, gradient, sensitivity=measured, scope="all", energy="none")
    return made


def test_the_cells_of_a_task_are_what_its_benchmark_and_its_proof_find(files, tmp_path, monkeypatch):
    swept = swept_from(files)
    assert not swept.failed
    found = results(swept)
    assert [cell.cell.task for cell in found] == ["questions"] * 4
    assert {cell.examples for cell in found} == {LIMIT}
    ran = [(group, run.evaluation) for group, run in swept.runs]
    monkeypatch.setattr("surgery.files.places.RUNS", str(tmp_path / "apart"))  # no answer is taken over
    adapter = open_adapter(files / "adapter")
    with attach(adapter, decompose(adapter), BaseChoice(str(files / "base"))) as live:
        edits = edits_of(live, files)
        alone = benchmark(live, load_task(task(files)), edits)
        proved = prove(live, Proof(load_task(task(files)), edits)).evaluation
    assert {cell.cell.variant for cell in found} == set(edits)
    before = alone.numbers(BASELINE, METRIC)
    p = {name: mcnemar(before, alone.numbers(name, METRIC)).p for name in edits}
    for cell in found:
        after = alone.numbers(cell.cell.variant, METRIC)
        assert cell.means[METRIC] == after.mean()
        assert cell.baseline[METRIC] == before.mean()
        assert cell.changes[METRIC].mean == pytest.approx((after - before).mean())
        assert cell.holm[METRIC] == pytest.approx(holm(p)[cell.cell.variant])
    for group, evaluation in ran:
        for name in (BASELINE, *group.edits):
            mine = evaluation.scores[name]
            for other in (alone.scores[name], proved.scores[name]):
                assert mine.answers == other.answers
                assert mine.values.keys() == other.values.keys()
                for metric, numbers in mine.values.items():
                    np.testing.assert_allclose(numbers, other.values[metric], rtol=2e-5, atol=1e-6)
    assert any((alone.numbers(name, METRIC) != before).any() for name in edits), "the edits change nothing"


def test_a_sweep_over_a_task_is_found_again_without_a_model(files, monkeypatch):
    first = swept_from(files)
    monkeypatch.setattr("surgery.model.base.load_base", lambda *a, **o: pytest.fail("a model was loaded"))
    again = swept_from(files)
    assert [run.plan.key for _, run in again.runs] == [run.plan.key for _, run in first.runs]
    assert results(again) == results(first)


def test_a_task_that_shares_an_example_with_the_calibration_fails_with_its_reason(files):
    swept = swept_from(files, rows="asked")
    assert results(swept) == ()
    assert {tried.group.task.name for tried in swept.failed} == {"questions"}
    assert all("share" in tried.problem for tried in swept.failed)


def test_documents_that_chose_a_recipe_may_not_prove_it(files, tmp_path):
    recipe = Recipe(
        adapter=str(files / "adapter"),
        adapter_digest="",
        base=BaseChoice(str(files / "base")),
        calibration=CalibrationPlan(str(files / "rows.jsonl"), examples=4),
        edit=EditPlan(RandomIndex(), "all"),
        chosen=(task(files),),
    )
    (tmp_path / "chosen.yaml").write_text(dump_recipe(recipe))
    questions = {"task": "sciq", "limit": LIMIT, "data_files": dict(task(files).data_files or {})}
    record = {
        "sweep": 1,
        "attempts": 1,
        "adapters": {"tiny": {"source": str(files / "adapter")}},
        "tasks": {"questions": questions},
        "edits": [{"recipe": str(tmp_path / "chosen.yaml")}],
    }
    swept = run_sweep(expand(parse_sweep(yaml.safe_dump(record))), in_process)
    assert not swept.runs
    assert "the documents of sciq that chose an edit" in (swept.failed[0].problem or "")
