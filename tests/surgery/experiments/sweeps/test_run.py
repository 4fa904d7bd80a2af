"""Sweeps on a tiny model: what a file comes to, what it costs, what it finds, and what survives a failure."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from surgery.cli import main
from surgery.data import CalibrationPlan, Encoding, EvaluationPlan
from surgery.edits import make_edit
from surgery.errors import Cancelled
from surgery.evaluation import BASELINE
from surgery.experiments import Proof, prove
from surgery.experiments.sweeps import (
    cost,
    expand,
    in_process,
    parse_sweep,
    results,
    run_sweep,
)
from surgery.model import BaseChoice
from surgery.policies import GradDirection, RandomIndex
from surgery.progress import Control
from surgery.runs import stored_runs
from surgery.sensitivity import calibrate, known_proof_pace
from tests.helpers.models import tiny_llama
from tests.helpers.rounding import assert_losses
from tests.surgery.experiments.sweeps.conftest import ROOT, numbers, record, same_numbers, swept_from

# as the record of the sweep has it
SPACED = Encoding(separator=True)


def test_a_sweep_finds_what_separate_proofs_find(place):
    swept = swept_from(place)
    found = numbers(swept)
    with place.attach() as live:
        for budget in (4, 10):
            plan = CalibrationPlan(place.calibration.data, examples=budget, batch_size=4, encoding=SPACED)
            measured = calibrate(live, plan)
            for scope in ("residual", "all"):
                edits = {
                    f"grad_direction, {scope}, l1, {budget} examples": make_edit(
                        live.spectra, GradDirection(), sensitivity=measured, scope=scope
                    ),
                    f"random_index, {scope}, l1": make_edit(live.spectra, RandomIndex(), scope=scope),
                }
                for name, edit in edits.items():
                    held_out = EvaluationPlan(place.evaluation.data, limit=4, encoding=SPACED)
                    alone = prove(live, Proof(held_out, {"x": edit}, [plan]))
                    scores = alone.evaluation.scores["x"]
                    loss, exact, answers = found["tiny", "sums", name]
                    assert_losses(loss, scores.loss, tiny_llama())
                    np.testing.assert_array_equal(exact, scores.exact)
                    assert answers == scores.answers


def test_the_unedited_adapter_is_not_asked_again_in_every_pass(place, engine_calls):
    swept = swept_from(place)
    asked = [name for call in engine_calls for name in call.variants]
    assert len(swept.runs) == 3
    assert asked.count(BASELINE) == 1
    assert len(asked) == 6 + 1


def test_a_sweep_that_was_stopped_goes_on_without_repeating_finished_cells(place, engine_calls):
    plan = expand(parse_sweep(yaml.safe_dump(record(place))))
    with pytest.raises(Cancelled):
        run_sweep(
            plan,
            in_process,
            control=Control(cancelled=lambda: any(run.finished for run in stored_runs())),
        )
    # the runs that ended are in the history while the sweep is not over
    ended = {run.plan.key for run in stored_runs() if run.finished}
    assert len(ended) == 1
    before = sum(call.answers for call in engine_calls)
    swept = swept_from(place)
    assert ended < {run.plan.key for _, run in swept.runs}
    assert sum(call.answers for call in engine_calls) - before < (6 + 1) * 4
    assert len(results(swept)) == 8


def answers_of(run: Path) -> set[tuple[str, int]]:
    """Variant and number of every request that the log of a run says is finished."""
    log = run / "answers.jsonl"
    lines = log.read_bytes().split(b"\n")[:-1] if log.is_file() else []
    return {(name, line[1]) for line in map(json.loads, lines) for name in line[3]}


def by_end(home: Path) -> tuple[list[Path], list[Path]]:
    """The runs that have ended, and the others."""
    runs = list((home / "runs").glob("*"))
    ended = [run for run in runs if (run / "metrics.json").is_file()]
    return ended, [run for run in runs if run not in ended]


def half_way(home: Path) -> bool:
    """Whether a later run has answers of its own, beside the unedited adapter's five that it took over."""
    ended, others = by_end(home)
    return bool(ended) and any(5 < len(answers_of(run)) < 10 for run in others)


def test_a_sweep_that_is_killed_goes_on_and_leaves_the_runs_that_had_ended_as_they_are(
    place, tmp_path, monkeypatch, capsys, engine_calls
):
    changes = {
        "tasks": {"sums": {"data": place.evaluation.data, "limit": 5, "batch_size": 1}},
        "edits": [{"policies": ["grad_direction", "abs_select", "random_index"], "budgets": [10]}],
        "variants_at_once": 1,
    }
    alone = numbers(swept_from(place, **changes))
    file, home = tmp_path / "sweep.yaml", tmp_path / "killed"
    file.write_text(yaml.safe_dump(record(place, **changes)))
    command = ["sweep", str(file), "--in-process", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SURGERY_HOME": str(home)}
    with subprocess.Popen([sys.executable, "-m", "surgery", *command], cwd=ROOT, env=environment) as child:
        while child.poll() is None and not half_way(home):
            time.sleep(0.01)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    ended, [cut] = by_end(home)
    assert ended
    kept = {each: (each.stat().st_mtime_ns, each.read_bytes()) for run in ended for each in run.iterdir()}
    known = len(set().union(*map(answers_of, (*ended, cut))))
    monkeypatch.setenv("SURGERY_HOME", str(home))
    monkeypatch.setattr("surgery.files.places.RUNS", "runs")
    engine_calls.clear()
    capsys.readouterr()
    assert main(command) == 0
    assert len(json.loads(capsys.readouterr().out)["cells"]) == 3
    assert {each: (each.stat().st_mtime_ns, each.read_bytes()) for each in kept} == kept
    assert sum(call.answers for call in engine_calls) == 5 * (1 + 3) - known
    monkeypatch.setattr("surgery.model.base.load_base", lambda *a, **o: pytest.fail("a model was loaded"))
    same_numbers(numbers(swept_from(place, **changes)), alone)


def test_the_pace_of_a_proof_tells_the_time_of_the_next(place, monkeypatch):
    monkeypatch.setattr("surgery.sensitivity.timing._SHORTEST", 0.0)
    assert cost(expand(parse_sweep(yaml.safe_dump(record(place))))).seconds is None
    swept_from(place)
    pace = known_proof_pace(BaseChoice(place.base.location), "sums")
    assert pace is not None
    more = expand(
        parse_sweep(yaml.safe_dump(record(place, tasks={"sums": {"data": place.evaluation.data, "limit": 8}})))
    )
    assert cost(more).seconds >= 8 * 7 * pace
