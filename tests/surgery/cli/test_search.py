"""`surgery search`, from its words to its table, killed half-way and taken up again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from surgery.cli import main
from surgery.policies import knob_values
from surgery.recipes import read_recipe
from tests.helpers.models import save_adapter, save_model, tiny_llama
from tests.surgery.cli.conftest import strict

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    save_model(tiny_llama(), folder / "base")
    save_adapter(tiny_llama(), folder / "adapter")
    for name, sign in (("rows", "+"), ("other", "-")):
        rows = [json.dumps({"prompt": f"{a}{sign}{b}=", "answer": str(a * b)}) for a in range(6) for b in range(6)]
        (folder / f"{name}.jsonl").write_text("\n".join(rows))
    return folder


def words(files, *more):
    given = ["search", str(files / "adapter"), "--base", str(files / "base"), "--data", str(files / "rows.jsonl")]
    return [*given, "--policy", "scale", "--scope", "all", "--rows", "16", *more]


def record(capsys, *given):
    assert main([*given, "--json"]) == 0
    return strict(capsys.readouterr().out)


def test_a_search_prints_its_front_and_writes_a_recipe_for_each_edit_of_it(files, tmp_path, capsys):
    asked = words(files, "--objectives", "loss", "protected", "kl", "--protected-data", str(files / "other.jsonl"))
    asked += ["--trials", "6", "--vary", "knobs", "strength", "--recipes", str(tmp_path / "recipes")]
    found = record(capsys, *asked)
    assert found["rows"] == {"own": 16, "protected": 16}
    assert len(found["trials"]) == 6
    assert {trial["outcome"] for trial in found["trials"]} <= {"measured", "stopped"}
    assert found["warning"].startswith("6 trials looked at")
    assert [Path(file).name for file in found["recipes"]] == [f"trial-{number}.yaml" for number in found["front"]]
    for file, number in zip(found["recipes"], found["front"], strict=True):
        recipe = read_recipe(file)
        assert knob_values(recipe.edit.policy).items() <= found["trials"][number - 1]["settings"].items()
        assert [Path(plan.data).name for plan in recipe.chosen] == ["rows.jsonl", "other.jsonl"]
    assert main(asked) == 0
    text = capsys.readouterr().out
    assert f"{len(found['front'])} of 6 trials are on the front" in text
    assert found["search"] in text
    for number in found["front"]:
        effect = found["trials"][number - 1]["changes"]["kl"]
        assert f"{effect['mean']:+.4f} ± {effect['standard_error']:.4f}" in text


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--objectives", "speed"], "speed"),
        (["--objectives", "parameters"], "such as loss"),
        (["--objectives", "protected"], "--protected-data"),
        (["--vary", "speed"], "speed"),
        (["--only", "seed"], "seed"),
        (["--seconds", "nan"], "0 seconds"),
        (["--rows", "99"], "99"),
    ],
)
def test_what_makes_no_search_is_refused_in_one_line(files, fails, more, word):
    assert word in fails(*words(files, *more))


def test_a_search_that_is_killed_half_way_finds_the_same_front_when_it_is_started_again(
    files, tmp_path, monkeypatch, capsys
):
    """It runs in a process of its own, with as many threads, and the kill is one that cannot be caught."""
    asked = words(
        files, "--trials", "24", "--vary", "knobs", "strength", "--objectives", "loss", "kl", "--no-race"
    )
    environment = {**os.environ, "SURGERY_HOME": str(tmp_path), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "surgery", *asked]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL) as process:
        _kill_when_it_has_trials(process, tmp_path / "runs")
    whole = record(capsys, *asked)
    monkeypatch.setattr("surgery.files.places.RUNS", str(tmp_path / "runs"))
    assert record(capsys, *asked) == whole
    assert len(whole["trials"]) == 24


def _kill_when_it_has_trials(process: subprocess.Popen, runs: Path) -> None:
    limit = time.monotonic() + 120
    while time.monotonic() < limit and process.poll() is None:
        if any(file.read_bytes().count(b'"outcome"') >= 5 for file in runs.glob("*/study.journal")):
            break
        time.sleep(0.01)
    assert process.poll() is None, "it ended before it could be killed"
    process.send_signal(signal.SIGKILL)
