"""The benchmark command: all variants in one pass, changes paired and tested, slices kept apart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surgery import decompose, open_adapter
from surgery.cli import main
from surgery.data import Margins, TaskPlan
from surgery.errors import DataError
from surgery.evaluation import (
    BASELINE,
    NOT_INFERIOR,
    NonInferiority,
    holm,
    mcnemar,
    summarise,
    summary_record,
)
from surgery.evaluation.lm_eval import benchmark, load_task
from surgery.experiments import random_controls
from surgery.model import BaseChoice, attach
from surgery.runs import stored_run
from tests.helpers.models import save_adapter, save_model, tiny_llama, tiny_tokenizer
from tests.helpers.own_tasks import own_tasks

METRIC = "acc,none"
WORDS = ["red", "blue", "green", "one", "two", "three", "four", "five", "six", "seven"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    save_model(tiny_llama(max_position_embeddings=2048), folder / "base", tiny_tokenizer())
    save_adapter(tiny_llama(max_position_embeddings=2048), folder / "adapter", scale=0.6)
    rng = np.random.default_rng(0)
    with (folder / "questions.jsonl").open("w") as out:
        for number in range(12):
            choices = rng.permutation(WORDS)[:5].tolist()
            question = {
                "id": str(number),
                "question": f"which word is number {number} of this list of words?",
                "question_concept": "word",
                "choices": {"label": list("ABCDE"), "text": choices},
                "answerKey": "ABCDE"[number % 5],
            }
            out.write(json.dumps(question) + "\n")
    rows = [json.loads(line) for line in (folder / "questions.jsonl").open()]
    (folder / "seen.jsonl").write_text(
        "\n".join(json.dumps({"prompt": row["question"], "answer": "a"}) for row in rows[4:8])
    )
    (folder / "apart.jsonl").write_text(
        "\n".join(json.dumps({"prompt": f"{n} + {n} =", "answer": "a"}) for n in range(4))
    )
    return folder


def arguments(files: Path, *more: str) -> list[str]:
    return [
        "benchmark", str(files / "adapter"), "--base", str(files / "base"), "--task", "commonsense_qa",
        "--data-files", f"validation={files / 'questions.jsonl'}", *more,
    ]  # fmt: skip


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, Any]:
    assert main([*argv, "--json"]) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(list(argv)) == 2
    said = capsys.readouterr().err.strip().splitlines()
    return said[-1]


def recipe(files: Path, rows: str) -> Path:
    file = files / f"{rows}.yaml"
    file.write_text(
        f"""recipe: 1
adapter: {{source: {files / "adapter"}, digest: ''}}
base: {{location: {files / "base"}}}
calibration: {{data: {files / rows}.jsonl, examples: 4, batch_size: 4}}
edit: {{scope: residual, policy: grad_direction, knobs: {{eta_suppress: 3.0}}, energy: none}}
"""
    )
    return file


def test_every_variant_is_scored_paired_and_tested_on_the_same_examples(files: Path) -> None:
    adapter = open_adapter(files / "adapter")
    spectra = decompose(adapter)
    plan = TaskPlan("commonsense_qa", data_files={"validation": str(files / "questions.jsonl")})
    with attach(adapter, spectra, BaseChoice(str(files / "base"))) as live:
        found = benchmark(live, load_task(plan), random_controls(spectra, 3))
        alone = benchmark(live, load_task(plan), {}, rows=1)
    before = found.numbers(BASELINE, METRIC)
    np.testing.assert_array_equal(before, alone.numbers(BASELINE, METRIC))
    assert found.variants == ("random 0", "random 1", "random 2")
    record = summary_record(summarise(found))
    for name in found.variants:
        after = found.numbers(name, METRIC)
        assert record["variants"][name]["changes"][METRIC]["mean"] == pytest.approx((after - before).mean())
        assert record["variants"][name]["mcnemar"][METRIC]["p"] == mcnemar(before, after).p
    p = {name: mcnemar(before, found.numbers(name, METRIC)).p for name in found.variants}
    assert {name: record["variants"][name]["mcnemar"][METRIC]["holm"] for name in p} == pytest.approx(holm(p))
    with pytest.raises(DataError, match="rename"):
        benchmark(live, load_task(plan), {BASELINE: random_controls(spectra, 1)["random 0"]})


def test_a_recipe_rides_along_and_a_slice_it_was_made_on_is_refused(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = told(
        capsys, *arguments(files, "--variant", str(recipe(files, "apart")), "--random", "1", "--limit", "6")
    )
    assert list(record["variants"]) == [BASELINE, "apart.yaml", "random 0"]
    assert (record["examples"], record["measures"][0]["name"]) == (6, METRIC)
    assert record["question"]["task"]["limit"] == 6
    said = refused(capsys, *arguments(files, "--variant", str(recipe(files, "seen")), "--limit", "6"))
    assert "slice 0 of seen.yaml and the slice of commonsense_qa share 2 examples" in said
    assert "number 4 of this list" in said
    # the same recipe on a slice that it has not seen
    assert (
        told(capsys, *arguments(files, "--variant", str(recipe(files, "seen")), "--limit", "4"))["examples"] == 4
    )


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--data-files", "questions.jsonl"], "is no SPLIT=FILE"),
        (["--limit", "99"], "12"),
        (["--task", "nothing_of_this_name"], "nothing_of_this_name"),
    ],
)
def test_what_cannot_be_run_is_one_line(
    files: Path, capsys: pytest.CaptureFixture[str], more: list[str], reason: str
) -> None:
    assert reason in refused(capsys, *arguments(files, *more))


def test_programs_are_not_run_unasked(files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    problem = {
        "task_id": "HumanEval/0",
        "prompt": "def two():\n",
        "canonical_solution": "    return 2\n",
        "test": "def check(candidate):\n    assert candidate() == 2\n",
        "entry_point": "two",
    }
    (tmp_path / "programs.jsonl").write_text(json.dumps(problem))
    argv = ["benchmark", str(files / "adapter"), "--base", str(files / "no base is loaded"), "--task", "humaneval"]
    said = refused(capsys, *argv, "--data-files", f"test={tmp_path / 'programs.jsonl'}")
    assert "programs" in said
    assert "--run-programs" in said


def test_a_folder_stands_beside_the_adapter_in_the_same_run(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    variant = ["--variant", str(files / "adapter"), "--limit", "4"]
    record = told(capsys, *arguments(files, *variant, "--margin", "50points"))
    assert list(record["variants"]) == [BASELINE, "adapter"]
    same = record["variants"]["adapter"]
    assert same["means"] == record["variants"][BASELINE]["means"]
    assert same["changes"][METRIC]["mean"] == 0
    # none of four answers changed: z²/(4 + z²) = 0.40 at worst
    found = NonInferiority(**same["margins"][METRIC])
    assert (found.verdict, found.low) == (NOT_INFERIOR, pytest.approx(-0.4035, abs=1e-4))
    run = stored_run(record["run"])
    assert run.plan.variants.keys() == {BASELINE, "adapter"}
    assert run.plan.margins == Margins(50.0, None)


def test_a_group_of_one_s_own_is_asked_by_the_command_and_its_tasks_are_told(
    files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = own_tasks(tmp_path / "own", colours=3, words=2)
    argv = [
        "benchmark", str(files / "adapter"), "--base", str(files / "base"), "--task", "equal",
        "--include-path", str(folder), "--system", "Choose.", "--random", "1",
    ]  # fmt: skip
    record = told(capsys, *argv)
    assert record["examples"] == 5
    assert record["question"]["task"] == {"name": "equal", "include_path": str(folder), "system": "Choose."}
    totals = record["variants"]["random 0"]["aggregates"]
    assert record["variants"]["random 0"]["means"][METRIC] == pytest.approx(totals[METRIC])
    assert totals[METRIC] == pytest.approx((totals[f"colours/{METRIC}"] + totals[f"words/{METRIC}"]) / 2)
    again = told(capsys, *argv)
    assert again["run"] == record["run"]
    assert main(argv) == 0
    assert "acc by task, unedited, random 0:" in capsys.readouterr().out
    # another definition of the same requests scores otherwise: a run of its own
    words = folder / "words.yaml"
    words.write_text(words.read_text().replace("metric: acc, ", "metric: acc, ignored: 1, "))
    assert told(capsys, *argv)["run"] != record["run"]


def test_code_of_an_own_folder_is_run_when_it_is_trusted(
    files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = own_tasks(tmp_path / "own", colours=2, words=2)
    file = folder / "colours.yaml"
    file.write_text(file.read_text().replace("process_docs: null", "") + "process_docs: !function mine.kept\n")
    (folder / "mine.py").write_text("def kept(rows):\n    return rows\n")
    argv = [
        "benchmark", str(files / "adapter"), "--base", str(files / "base"), "--task", "colours",
        "--include-path", str(folder),
    ]  # fmt: skip
    assert "imports Python ('mine.kept') → if you trust" in refused(capsys, *argv)
    assert told(capsys, *argv, "--trust-task-code")["examples"] == 2


def test_prompts_longer_than_the_model_are_counted_in_what_is_told(
    files: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    save_model(tiny_llama(max_position_embeddings=40), tmp_path / "short", tiny_tokenizer())
    save_adapter(tiny_llama(max_position_embeddings=40), tmp_path / "adapter", scale=0.6)
    argv = arguments(files, "--limit", "4")
    argv[1], argv[3] = str(tmp_path / "adapter"), str(tmp_path / "short")
    record = told(capsys, *argv)
    assert record["cut"] == 4
    assert any(
        "4 of 4 prompts are longer than the 40 tokens that the model reads" in note for note in record["notes"]
    )
    assert main(argv) == 0
    assert "4 of 4 prompts are longer" in capsys.readouterr().out
