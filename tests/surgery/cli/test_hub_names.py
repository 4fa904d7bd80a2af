"""Commands on adapters, bases and rows of the hub: fetched, pinned in what is written, refused in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants

from surgery.adapter import open_adapter
from surgery.cli import main
from surgery.recipes import read_recipe
from surgery.runs import stored_runs
from surgery.sensitivity import measurement_in
from tests.helpers.hub_server import HubFiles, HubServer, hub_environment
from tests.helpers.workplace import Workplace
from tests.surgery.experiments.sweeps.conftest import record

ROOT = Path(__file__).resolve().parents[3]


class Commits:
    """The workplace on the hub: an adapter in a folder, its base and its rows, by the commits of `main`."""

    def __init__(self, hub: HubServer, files: Path) -> None:
        def below(folder: Path, prefix: str = "") -> dict[str, bytes]:
            return {f"{prefix}{file.name}": file.read_bytes() for file in folder.iterdir()}

        rows = {name: (files / f"{name}.jsonl").read_bytes() for name in ("calibration", "held-out")}
        self.adapter: HubFiles = hub.add("owner/adapter", below(files / "adapter", "last/"))
        self.base: HubFiles = hub.add("owner/base", below(files / "base"))
        self.rows: HubFiles = hub.add(
            "owner/rows", {"train.jsonl": rows["calibration"], "test.jsonl": rows["held-out"]}, "dataset"
        )

    @property
    def source(self) -> str:
        return f"owner/adapter@{self.adapter.refs['main']}/last"

    @property
    def data(self) -> str:
        return f"hub:owner/rows@{self.rows.refs['main']}:train"

    def move(self) -> None:
        """Other commits on `main`, with other files."""
        for each in (self.adapter, self.base, self.rows):
            each.commit({"README.md": b"gone\n"})


@pytest.fixture
def commits(hub: HubServer, place: Workplace, workplace_files: Path) -> Commits:
    return Commits(hub, workplace_files)


NAMED = ("owner/adapter/last", "--base", "owner/base")
CALIBRATE = ("--data", "hub:owner/rows:train", "--template", "plain", "--examples", "8", "--batch-size", "4")


def test_a_new_process_inspects_an_adapter_by_its_name(hub, small_adapter, tmp_path):
    commit = hub.add("owner/name", small_adapter).refs["main"]
    environment = {**os.environ, **hub_environment(hub.url, tmp_path / "hf")}

    def run(*words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "surgery", "inspect", *words]
        return subprocess.run(
            command,
            cwd=ROOT,
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = run("owner/name", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["adapter"] == f"owner/name@{commit}"
    assert done.stderr.splitlines()[-1].startswith("fetching owner/name, kB: ")
    refused = run("owner/other", HF_HUB_OFFLINE="1")
    assert refused.returncode == 2
    assert refused.stderr.startswith("surgery: 'owner/other' is not in the cache, and HF_HUB_OFFLINE forbids")
    assert len(refused.stderr.splitlines()) == 1


def test_what_calibrate_and_edit_write_names_the_commits_and_is_redone_from_them(commits, tmp_path, capsys):
    out = tmp_path / "g.safetensors"
    assert main(["calibrate", *NAMED, *CALIBRATE, "--out", str(out)]) == 0
    assert measurement_in(out).base.revision == commits.base.refs["main"]
    edited = tmp_path / "edited"
    words = ["edit", "owner/adapter/last", "--policy", "grad_direction", "--scope", "all"]
    assert main([*words, "--sensitivities", str(out), "--out", str(edited)]) == 0
    recipe = read_recipe(edited / "recipe.yaml")
    assert recipe.adapter == commits.source
    assert recipe.base.revision == commits.base.refs["main"]
    assert recipe.calibration.data == commits.data
    commits.move()
    redone = tmp_path / "redone"
    assert main(["run", str(edited / "recipe.yaml"), "--out", str(redone)]) == 0
    for name in ("adapter_model.safetensors", "recipe.yaml"):
        assert (redone / name).read_bytes() == (edited / name).read_bytes(), name
    capsys.readouterr()


def test_a_recipe_by_name_is_written_back_with_commits(commits, tmp_path, place, capsys):
    file = tmp_path / "recipe.yaml"
    record_ = {
        "recipe": 2,
        "adapter": {"source": "owner/adapter@main/last", "digest": ""},
        "base": {"location": "owner/base"},
        "calibration": {
            "data": "hub:owner/rows:train",
            "examples": 8,
            "template": "plain",
            "tokenised": "together",
        },
        "edit": {"policy": "smooth_abs", "scope": "all"},
        "evaluation": {
            "data": "hub:owner/rows:test",
            "limit": 4,
            "random": 1,
            "template": "plain",
            "generate": False,
        },
    }
    file.write_text(yaml.safe_dump(record_))
    assert main(["run", str(file), "--out", str(tmp_path / "out")]) == 0
    written = read_recipe(tmp_path / "out" / "recipe.yaml")
    assert written.adapter == commits.source
    assert written.base.revision == commits.base.refs["main"]
    assert written.calibration.data == commits.data
    assert written.evaluation.data == commits.data.replace(":train", ":test")
    (run,) = stored_runs()
    assert run.plan.adapter == commits.source
    assert run.plan.base["revision"] == commits.base.refs["main"]
    assert read_recipe(run.folder / "recipe.yaml") == written
    capsys.readouterr()


def test_an_export_on_the_hub_brings_its_record_as_a_variant(commits, hub, tmp_path, capsys):
    out, edited = tmp_path / "g.safetensors", tmp_path / "edited"
    assert main(["calibrate", *NAMED, *CALIBRATE, "--out", str(out)]) == 0
    words = ["edit", "owner/adapter/last", "--policy", "grad_direction", "--scope", "all"]
    assert main([*words, "--sensitivities", str(out), "--out", str(edited)]) == 0
    hub.add("owner/edited", edited)
    evaluate = ["evaluate", *NAMED, "--template", "plain", "--variant", "owner/edited", "--loss-only"]
    capsys.readouterr()
    assert main([*evaluate, "--data", "hub:owner/rows:train"]) == 2
    assert "were used for calibration or tuning of 'edited'" in capsys.readouterr().err
    assert main([*evaluate, "--data", "hub:owner/rows:test", "--limit", "4", "--json"]) == 0
    assert "edited" in json.loads(capsys.readouterr().out)["variants"]


def test_a_sweep_stays_at_the_commits_that_it_began_with(commits, place, tmp_path, capsys):
    from surgery.experiments.sweeps import parse_sweep, pinned_sweep

    adapters = {"tiny": {"source": "owner/adapter/last"}}
    text = yaml.safe_dump(record(place, base={"location": "owner/base"}, adapters=adapters))
    (swept,) = pinned_sweep(parse_sweep(text)).adapters
    assert swept.source == commits.source
    assert swept.base.revision == commits.base.refs["main"]
    file = tmp_path / "sweep.yaml"
    file.write_text(text)
    assert main(["sweep", str(file), "--in-process", "--limit", "3", "--examples", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"]
    assert {run.plan.adapter for run in stored_runs()} == {commits.source}


def test_a_refusal_of_the_hub_is_one_line(hub, fails, small_adapter, monkeypatch, tmp_path):
    assert "no model 'owner/nothing' on the hub" in fails("inspect", "owner/nothing", "--json")
    hub.add("owner/name", small_adapter)
    words = ("calibrate", "owner/name", "--data", "hub:owner/none:train", "--out", str(tmp_path / "g"))
    open_adapter("owner/name")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "'owner/none' is not in the cache" in fails(*words, "--base", "owner/base")
