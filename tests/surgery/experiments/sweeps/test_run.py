"""Sweeps on a tiny model: what a file comes to, what it costs, what it finds, and what survives a failure."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import yaml

from surgery.cli import main
from surgery.data import CalibrationPlan, EvaluationPlan, UnusableRow
from surgery.edits import make_edit
from surgery.errors import Cancelled, DataError, PolicyError, SurgeryError, SweepError
from surgery.evaluation import BASELINE
from surgery.experiments import Proof, prove
from surgery.experiments.sweeps import (
    Resources,
    check,
    cost,
    expand,
    finished,
    in_process,
    on_ray,
    parse_sweep,
    passes_of,
    read_sweep,
    request,
    results,
    run_sweep,
    table,
    variant_name,
    write_tables,
)
from surgery.model import BaseChoice
from surgery.policies import GradDirection, RandomIndex
from surgery.progress import Control
from surgery.runs import stored_runs
from surgery.sensitivity import calibrate, known_proof_pace
from tests.helpers.cluster import Killer, two_nodes
from tests.helpers.models import save_adapter, tiny_llama
from tests.helpers.places import files_of_at_most, refusal, write_rows
from tests.helpers.rounding import assert_losses

ROOT = Path(__file__).resolve().parents[4]
DEMOS = ROOT / "assets" / "sweeps" / "demos.yaml"


def record(place, **changes) -> dict:
    """A small sweep over the workplace's adapter: six edits, four of which a calibration pass serves."""
    whole = {
        "sweep": 1,
        "base": {"location": place.base.location},
        "calibration": {"data": place.calibration.data, "batch_size": 4},
        "adapters": {"tiny": place.adapter},
        "tasks": {"sums": {"data": place.evaluation.data, "limit": 4}},
        "edits": [
            {"policies": ["grad_direction", "random_index"], "scopes": ["residual", "all"], "budgets": [4, 10]},
        ],
        "variants_at_once": 2,
        "attempts": 2,
    }
    return {**whole, **changes}


def swept_from(place, runner=in_process, **changes):
    plan = expand(parse_sweep(yaml.safe_dump(record(place, **changes))))
    check(plan)
    return run_sweep(plan, runner)


def numbers(swept) -> dict:
    """Every per-example loss and answer, by variant and from the files of the runs."""
    found = {}
    for group, run in swept.runs:
        for name in [BASELINE, *group.edits]:
            scores = run.evaluation.scores[name]
            found[group.adapter.name, group.task.name, name] = (scores.loss, scores.exact, scores.answers)
    return found


def same_numbers(first, second) -> None:
    """Batches that are packed otherwise may round otherwise, and no more."""
    assert first.keys() == second.keys()
    for name, (loss, exact, answers) in first.items():
        assert_losses(loss, second[name][0], tiny_llama())
        np.testing.assert_array_equal(exact, second[name][1])
        assert answers == second[name][2]


def test_a_grid_is_the_product_of_its_lists_and_a_sweep_the_union_of_its_grids(place):
    edits = [
        {"policies": ["grad_direction", "random_index"], "scopes": ["residual", "all"], "budgets": [4, 10]},
        {"policies": ["grad_direction"], "energies": ["l1", "none"], "budgets": [10]},
    ]
    plan = expand(parse_sweep(yaml.safe_dump(record(place, edits=edits))))
    # eight of the first grid; the second adds one, for its l1 edit is in the first already
    assert len(plan.cells) == 9
    # a budget does nothing to random_index: its four cells are two variants
    assert sum(len(group.edits) for group in plan.groups) == 4 + 1 + 2
    assert [len(group.edits) for group in plan.groups] == [1, 2, 2, 2]


def test_lists_of_knobs_are_an_axis_of_their_own(place):
    knobs = {"eta_suppress": [0.1, 1.0, 2.0], "eta_enhance": [0.2, 0.4], "power": 2}
    edits = [{"policies": [{"policy": "grad_direction", "knobs": knobs}, "abs_select"]}]
    sweep = parse_sweep(yaml.safe_dump(record(place, edits=edits)))
    assert len(sweep.edits) == 3 * 2 + 1
    assert {edit.plan.policy.power for edit in sweep.edits[:6]} == {2.0}
    assert len({variant_name(edit) for edit in sweep.edits}) == 7


def test_every_adapter_meets_the_tasks_that_it_names_and_all_where_it_names_none(place):
    adapters = {"one": place.adapter, "two": {"source": place.adapter, "tasks": ["second"]}}
    tasks = {name: {"data": place.evaluation.data, "limit": n} for name, n in (("first", 2), ("second", 3))}
    plan = expand(parse_sweep(yaml.safe_dump(record(place, adapters=adapters, tasks=tasks))))
    pairs = dict.fromkeys((cell.adapter, cell.task) for cell in plan.cells)
    assert list(pairs) == [("one", "first"), ("one", "second"), ("two", "second")]
    assert cost(plan).cells == 3 * 8


def test_the_committed_sweep_fills_the_tables_of_the_paper():
    sweep = read_sweep(DEMOS)
    plan = expand(sweep)
    assert len(plan.cells) == 2 * (5 * 3 * 4 + 1)
    assert sum(len(group.edits) for group in plan.groups) == 2 * (4 * 3 * 4 + 3 + 1)
    assert {(name, each.examples) for (name, _), each in passes_of(plan.groups).items()} == {
        ("kinship", 256),
        ("arithmetic", 256),
    }
    check(plan)
    smaller = read_sweep(DEMOS, limit=3, examples=8)
    assert {task.limit for task in smaller.tasks} == {3}
    assert {edit.budget for edit in smaller.edits} == {8}
    assert len(expand(smaller).cells) == 2 * (5 * 3 + 1), "budgets that became equal are one"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sweep": 2}, "schema 1"),
        ({"sweep": True}, "schema 1"),
        ({"colour": 1}, "'colour'"),
        ({"edits": []}, "no list of edits"),
        ({"edits": [{"scopes": ["all"]}]}, "names no policies"),
        ({"edits": [{"policies": ["grad_direction"], "scope": ["all"]}]}, "edits[0] has no setting 'scope'"),
        ({"edits": [{"policies": "grad_direction"}]}, "edits[0].policies cannot be 'grad_direction'"),
        ({"edits": [{"policies": ["gradient"]}]}, "no policy called 'gradient'"),
        ({"edits": [{"policies": [{"policy": "scale", "knobs": {"eta": [1]}}]}]}, "no knob 'eta'"),
        ({"edits": [{"policies": [{"policy": "scale", "knobs": {"gamma": []}}]}]}, "no value of the knob 'gamma'"),
        ({"edits": [{"policies": ["scale"], "budgets": [0]}]}, "edits[0].budgets cannot be 0"),
        ({"edits": [{"policies": ["scale"], "budgets": [True]}]}, "edits[0].budgets cannot be [True]"),
        ({"edits": [{"policies": ["scale"], "energies": ["l3"]}]}, "l3"),
        ({"edits": [{"policies": ["scale"], "scopes": ["("]}]}, "'('"),
        ({"edits": [{"policies": ["scale"], "seeds": list(range(400)), "budgets": list(range(1, 400))}]}, "edits"),
        ({"calibration": {"examples": 3}}, "list budgets under edits"),
        ({"calibration": {"colour": 3}}, "'colour'"),
        ({"adapters": {}}, "no adapters"),
        ({"adapters": {"x": {"base": {}}}}, "adapters.x has no source"),
        ({"adapters": {"x": {"source": "a", "tasks": ["other"]}}}, "'other'"),
        ({"adapters": {3: "a"}}, "the name 3"),
        ({"base": None}, "has no base model"),
        ({"tasks": {"x": {"limit": 3}}}, "names neither rows nor a task"),
        ({"tasks": {"x": {"data": "a", "random": 3}}}, "'random'"),
        ({"tasks": {"x": {"task": "gsm8k", "limits": 3}}}, "'limits'"),
        ({"tasks": {"x": {"task": "gsm8k", "limit": "3"}}}, "limit"),
        ({"tasks": {"x": {"task": "humaneval", "run_programs": 1}}}, "tasks.x.run_programs cannot be 1"),
        ({"resources": {"gpus": 0.5}}, "resources.gpus cannot be 0.5"),
        ({"variants_at_once": 0}, "variants_at_once cannot be 0"),
    ],
)
def test_what_a_sweep_cannot_hold_is_named(place, changes, said):
    text = yaml.safe_dump(record(place, **changes))
    assert said in refusal(SurgeryError, parse_sweep, text)


@pytest.mark.parametrize(
    "text", ["", "[1]", "sweep: 1\nsweep: 1", "a: &x 1\nb: *x", "!!python/object:os.x {}", "{"]
)
def test_what_is_no_plain_yaml_is_refused(text):
    refusal(SweepError, parse_sweep, text)


def test_what_can_be_told_without_a_model_is_refused_before_one_is_loaded(place, tmp_path):
    def checked(**changes):
        check(expand(parse_sweep(yaml.safe_dump(record(place, base={"location": "/nowhere"}, **changes)))))

    shared = {"sums": {"data": place.calibration.data}}
    assert "used for calibration" in refusal(DataError, checked, tasks=shared)
    many = [{"policies": ["grad_direction"], "budgets": [31]}]
    assert "31 rows" in refusal(DataError, checked, edits=many)
    nothing = [{"policies": ["grad_direction"], "scopes": ["no_such_module"], "budgets": [4]}]
    assert "matches no module" in refusal(PolicyError, checked, edits=nothing)
    refusal(SurgeryError, checked, adapters={"gone": str(tmp_path / "gone")})


def test_one_calibration_pass_serves_every_budget_scope_and_task(place, monkeypatch):
    from surgery.sensitivity import calibration as measure

    measured = []
    original = measure.measure_sensitivity

    def watched(live, calibration, names, **options):
        measured.append(len(calibration.examples))
        return original(live, calibration, names, **options)

    monkeypatch.setattr("surgery.sensitivity.calibration.measure_sensitivity", watched)
    tasks = {name: {"data": place.evaluation.data, "limit": n} for name, n in (("two", 2), ("three", 3))}
    swept = swept_from(place, tasks=tasks)
    assert measured == [10]
    assert not swept.failed
    assert len(results(swept)) == 2 * 8


def test_a_base_is_loaded_once_for_all_passes_and_adapters(place, monkeypatch):
    from surgery.model import base

    loads = []
    original = base.load_base
    monkeypatch.setattr("surgery.model.base.load_base", lambda *a, **o: loads.append(a) or original(*a, **o))
    swept_from(place, adapters={"one": place.adapter, "again": place.adapter})
    assert len(loads) == 1


def test_a_sweep_finds_what_separate_proofs_find(place):
    swept = swept_from(place)
    found = numbers(swept)
    with place.attach() as live:
        for budget in (4, 10):
            plan = CalibrationPlan(place.calibration.data, examples=budget, batch_size=4)
            measured = calibrate(live, plan)
            for scope in ("residual", "all"):
                edits = {
                    f"grad_direction, {scope}, l1, {budget} examples": make_edit(
                        live.spectra, GradDirection(), sensitivity=measured, scope=scope
                    ),
                    f"random_index, {scope}, l1": make_edit(live.spectra, RandomIndex(), scope=scope),
                }
                for name, edit in edits.items():
                    alone = prove(live, Proof(EvaluationPlan(place.evaluation.data, limit=4), {"x": edit}, [plan]))
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


def test_a_finished_sweep_starts_no_model_again(place, monkeypatch):
    first = swept_from(place)
    monkeypatch.setattr("surgery.model.base.load_base", lambda *a, **o: pytest.fail("a model was loaded"))
    again = swept_from(place)
    same_numbers(numbers(first), numbers(again))
    plan = expand(parse_sweep(yaml.safe_dump(record(place))))
    known = [g for g, run in zip(plan.groups, finished(plan.groups), strict=True) if run is not None]
    assert (cost(plan, known).groups, cost(plan, known).finished_groups, cost(plan, known).requests) == (0, 3, 0)


def test_rows_that_changed_under_the_same_name_are_asked_anew(place, tmp_path):
    from tests.helpers.places import ROWS

    file = tmp_path / "rows.jsonl"
    write_rows(file, ROWS[30:34])
    tasks = {"sums": {"data": str(file)}}
    before = swept_from(place, tasks=tasks)
    write_rows(file, ROWS[34:38])
    after = swept_from(place, tasks=tasks)
    assert {run.plan.key for _, run in before.runs}.isdisjoint(run.plan.key for _, run in after.runs)


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


def test_a_pass_that_fails_is_tried_again_so_often_and_then_listed(place, monkeypatch):
    from surgery.experiments.sweeps import bench as sweep_run

    original, tries = sweep_run.prove, []

    def failing(live, proof, **options):
        if any("residual" in name and "grad_direction" in name for name in proof.edits):
            tries.append(list(proof.edits))
            raise OSError("the disk hiccups")
        return original(live, proof, **options)

    monkeypatch.setattr("surgery.experiments.sweeps.bench.prove", failing)
    swept = swept_from(place)
    assert len(tries) == 2
    assert [(t.attempts, t.problem) for t in swept.failed] == [(2, "OSError: the disk hiccups")]
    assert {each.cell.variant for each in results(swept)} == {
        name for group, _ in swept.runs for name in group.edits
    }
    monkeypatch.setattr("surgery.experiments.sweeps.bench.prove", original)
    mended = swept_from(place)
    assert not mended.failed
    assert len(results(mended)) == 8


def test_a_pass_that_fails_once_leaves_no_trace(place, monkeypatch):
    from surgery.experiments.sweeps import bench as sweep_run

    original, tries = sweep_run.prove, []

    def failing(*arguments, **options):
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("once")
        return original(*arguments, **options)

    monkeypatch.setattr("surgery.experiments.sweeps.bench.prove", failing)
    swept = swept_from(place)
    assert not swept.failed
    assert len(tries) == 4


def test_a_calibration_that_fails_takes_only_the_edits_that_need_it(place, monkeypatch):
    def failing(*arguments, **options):
        raise RuntimeError("no gradient today")

    monkeypatch.setattr("surgery.experiments.sweeps.bench.calibrate", failing)
    swept = swept_from(place, variants_at_once=1)
    assert {next(iter(t.group.edits)).partition(",")[0] for t in swept.failed} == {"grad_direction"}
    assert {t.problem for t in swept.failed} == {"the calibration failed: RuntimeError: no gradient today"}
    assert {each.cell.edit.plan.policy.name for each in results(swept)} == {"random_index"}


def test_tables_hold_the_means_of_their_cells_in_the_columns_of_the_paper(place, tmp_path):
    edits = [
        {"policies": ["grad_direction", "abs_select"], "scopes": ["residual", "all"], "budgets": [4, 10]},
        {"policies": [{"policy": "random_index", "knobs": {"seed": [0, 1]}}], "budgets": [4, 10]},
        {"policies": ["grad_direction"], "energies": ["none"], "budgets": [10]},
    ]
    swept = swept_from(place, edits=edits)
    found = results(swept)
    found_numbers = numbers(swept)

    def mean(name):
        return found_numbers["tiny", "sums", name][0].mean()

    [second] = table(2, found, "loss").rows
    assert second["grad_direction"] == pytest.approx(mean("grad_direction, residual, l1, 10 examples"))
    draws = [mean("random_index, residual, l1"), mean("random_index seed 1, residual, l1")]
    assert second["random_index"] == pytest.approx(np.mean(draws))
    assert second["smooth_abs"] is None, "the sweep did not ask for it"
    assert second["baseline"] == pytest.approx(mean(BASELINE))
    [third] = table(3, found, "loss").rows
    assert third["none"] == pytest.approx(mean("grad_direction, residual, none, 10 examples"))
    fifth = table(5, found, "loss").rows[0]
    assert fifth["all_modules"] == pytest.approx(mean("grad_direction, all, l1, 10 examples"))
    written = write_tables(found, tmp_path / "tables")
    headers = {file.name: file.read_text().splitlines()[0] for file in written}
    paper = ROOT / "assets" / "paper"
    assert headers == {name: (paper / name).read_text().splitlines()[0] for name in headers}
    assert "table2.csv" in headers
    before = {file: file.read_bytes() for file in written}
    with files_of_at_most(20):
        refusal(SweepError, write_tables, found, tmp_path / "tables")
    assert {file: file.read_bytes() for file in (tmp_path / "tables").rglob("*") if file.is_file()} == before


def test_p_values_are_corrected_for_the_whole_sweep_not_for_one_pass(place):
    swept = swept_from(place, variants_at_once=1)
    found = results(swept)
    # the budgets that random_index does not read share one variant, so six tests were made
    raw = {each.cell.variant: each for each in found}
    assert len(raw) == 6
    smallest = min(
        run.metrics.summary.variants[name].tests["exact"].p for group, run in swept.runs for name in group.edits
    )
    assert min(each.holm["exact"] for each in found) == pytest.approx(min(1.0, 6 * smallest))


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


def test_the_command_tells_the_cost_first_and_gives_cells_tables_and_json(place, tmp_path, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(record(place)))
    assert main(["sweep", str(file), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["cost"]
    assert (told["cells"], told["variants"], told["groups"], told["requests"]) == (8, 6, 3, 4 * (6 + 3))
    assert not stored_runs()
    arguments = [
        "sweep",
        str(file),
        "--in-process",
        "--limit",
        "3",
        "--examples",
        "4",
        "--tables",
        str(tmp_path / "t"),
    ]
    assert main([*arguments, "--json"]) == 0
    output = capsys.readouterr()
    swept = json.loads(output.out)
    assert len(swept["cells"]) == 4
    assert {cell["examples"] for cell in swept["cells"]} == {3}
    assert swept["tables"]["loss"]["2"][0]["model"] == "tiny"
    assert "answers" in output.err.splitlines()[0]
    assert main(arguments) == 0
    assert "Table 5, loss" in capsys.readouterr().out


def test_mistakes_at_the_command_line_are_one_line_and_exit_code_2(place, tmp_path, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(record(place, base={"location": str(tmp_path)})))
    assert main(["sweep", str(tmp_path / "none.yaml")]) == 2
    assert main(["sweep", str(file), "--in-process"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("surgery: ") for line in errors) == 2


@pytest.fixture(scope="module")
def cluster():
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install -e .[cluster]")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"):
            patch.setenv(name, "0")  # put back when the module ends
        with two_nodes() as address:
            yield address


def test_a_worker_that_is_killed_half_way_costs_no_cell_and_changes_no_number(
    place, cluster, tmp_path, monkeypatch
):
    rows = {"sums": {"data": place.evaluation.data, "batch_size": 1}}
    alone = swept_from(place, tasks=rows)
    # another history and another home: nothing is known there
    away = tmp_path / "away"
    monkeypatch.setenv("SURGERY_HOME", str(away))
    monkeypatch.setattr("surgery.files.places.RUNS", str(tmp_path / "brought back"))
    # one adapter more, which fails on every worker: it was trained on another model
    wider = save_adapter(tiny_llama(intermediate_size=40), tmp_path / "misfit")
    adapters = {"tiny": place.adapter, "misfit": str(wider)}
    runner = on_ray(Resources(), address=cluster)
    with Killer(away / "runs") as killer:
        swept = swept_from(place, runner, tasks=rows, adapters=adapters, attempts=3)
    assert killer.killed, "no worker was at work when it was to be killed"
    assert {each.cell.adapter for each in results(swept)} == {"tiny"}
    assert len(results(swept)) == 8
    same_numbers(numbers(alone), numbers(swept))
    assert {(failed.group.adapter.name, failed.attempts) for failed in swept.failed} == {("misfit", 3)}
    assert all("the adapter was trained on" in failed.problem for failed in swept.failed)
    # the workers wrote to their own history, and the files of every run came back
    assert {run.plan.key for _, run in swept.runs} == {folder.name for folder in (away / "runs").iterdir()}
    assert all(run.folder.parent == tmp_path / "brought back" for _, run in swept.runs)


def test_an_error_says_the_same_in_another_process():
    for error in (DataError("a  b", "c"), UnusableRow("too long", "a", "b")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), vars(again)) == (str(error), vars(error))


def test_work_that_no_machine_can_hold_is_refused_and_not_waited_for(place, cluster):
    runner = on_ray(Resources(cpus=64), address=cluster)
    assert "64 CPUs" in refusal(SweepError, swept_from, place, runner)


def test_a_task_asks_for_the_memory_and_the_cards_of_its_base(place):
    small = request(place.base, Resources())
    assert small["num_gpus"] == 0
    assert 0 < small["memory"] < 2**26
    assert request(BaseChoice("owner/name", device="cuda"), Resources()) == {"num_cpus": 1, "num_gpus": 1}
    tight = Resources(gpu_memory_gib=1.0)
    assert request(BaseChoice(place.base.location, device="auto"), tight)["num_gpus"] == 1
    assert request(place.base, Resources(cpus=3, gpus=2, memory_gib=5)) == {
        "num_cpus": 3,
        "num_gpus": 2,
        "memory": 5 * 2**30,
    }
    assert "one card" in refusal(
        SweepError, request, BaseChoice(place.base.location, device="cuda:1"), Resources()
    )


def test_without_ray_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr("surgery.experiments.sweeps.ray_runner.find_spec", lambda name: None)
    assert "--in-process" in refusal(SweepError, on_ray, Resources())
