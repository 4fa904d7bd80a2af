"""The committed sweep over both demos, on two nodes with one worker killed half-way and again in one process, as Markdown.

    pip install -e .[cluster]
    python -m tests.benchmarks.sweep_report --limit 64 --check 16 --homes FOLDER > tests/benchmarks/SWEEP_REPORT.md

Both halves begin with an empty history below FOLDER; the command goes on there where it was cut off, and a half
that has ended is read from its folder. The run in one process may take fewer examples: they are the first of the
same slice.
"""

import argparse
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from surgery.evaluation import BASELINE
from surgery.experiments.sweeps import (
    TABLES,
    CellResult,
    Runner,
    SweepPlan,
    Swept,
    SweptTable,
    check,
    cost,
    cost_text,
    expand,
    in_process,
    on_ray,
    read_sweep,
    results,
    run_sweep,
    table,
)
from surgery.files import runs_folder
from surgery.progress import Control
from surgery.runs import stored_runs
from tests.helpers.cluster import Killer, two_nodes

SWEEP = Path(__file__).resolve().parents[2] / "assets" / "sweeps" / "demos.yaml"
METRICS = {"loss": "loss, nats per answer token", "exact": "exact match, share"}


@dataclass
class Half:
    """One way of carrying the sweep out: what it found, how long it took, and how its history filled.

    `killed` is when a worker was killed, in seconds after the start.
    """

    swept: Swept
    seconds: float
    filled: list[tuple[float, int]] = field(default_factory=list)
    killed: float | None = None


def carried_out(plan: SweepPlan, runner: Runner) -> Half:
    """The sweep on an empty or unfinished history, watched as the Evaluate page reads it: by its folders."""
    begun, over = time.monotonic(), threading.Event()
    filled: list[tuple[float, int]] = []

    def watch() -> None:
        while not over.wait(1.0):
            finished = sum(run.finished for run in stored_runs())
            if finished != (filled[-1][1] if filled else 0):
                filled.append((time.monotonic() - begun, finished))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        swept = run_sweep(plan, runner, control=_told())
    finally:
        over.set()
        watcher.join()
    return Half(swept, time.monotonic() - begun, filled)


def differences(first: Swept, second: Swept) -> tuple[int, float, int, int]:
    """Numbers that both ways found: how many losses, their largest difference, differing answers and verdicts."""
    count, largest, answers, verdicts = 0, 0.0, 0, 0
    others = {(group.adapter.name, group.task.name, *group.edits): run.evaluation for group, run in second.runs}
    for group, run in first.runs:
        other = others[group.adapter.name, group.task.name, *group.edits]
        places = {sample.key: place for place, sample in enumerate(run.evaluation.samples)}
        common = [places[sample.key] for sample in other.samples]
        for name in [BASELINE, *group.edits]:
            mine, its = run.evaluation.scores[name], other.scores[name]
            count += len(its.loss)
            largest = max(largest, float(np.abs(mine.loss[common] - its.loss).max()))
            answers += sum(mine.answers[place] != told for place, told in zip(common, its.answers, strict=True))
            verdicts += int((mine.exact[common] != its.exact).sum())
    return count, largest, answers, verdicts


def report(cluster: Half, alone: Half, options: argparse.Namespace) -> Iterator[str]:
    plan = cluster.swept.plan
    found = results(cluster.swept)
    yield "# The committed sweep over both demos"
    yield ""
    yield (
        f"    python -m tests.benchmarks.sweep_report --limit {options.limit} --check {options.check or options.limit} "
        "--homes FOLDER > tests/benchmarks/SWEEP_REPORT.md"
    )
    yield ""
    yield (
        f"`assets/sweeps/demos.yaml` with {options.limit} held-out examples of each task; {platform.machine()}, "
        f"{os.cpu_count()} cores, no GPU, torch {torch.__version__}, float32. {cost_text(cost(plan))}."
    )
    yield ""
    yield "## Two nodes, one worker killed"
    yield ""
    yield from _cluster_lines(cluster, alone)
    yield ""
    yield "## The paper's tables, filled by the demos"
    yield ""
    yield (
        "Means over the same held-out examples, from the run on two nodes. Layout and defaults are the paper's: scope "
        "residual, energy l1, 128 calibration examples unless a column says otherwise."
    )
    for metric, words in METRICS.items():
        for number in TABLES:
            yield from _table_lines(table(number, found, metric), words)
    yield ""
    yield "## What stands above noise"
    yield ""
    yield from _noise_lines(found)
    yield ""
    yield "## Every variant"
    yield ""
    yield from _variant_lines(found)


def _cluster_lines(cluster: Half, alone: Half) -> Iterator[str]:
    killed = cluster.killed
    count, largest, answers, verdicts = differences(cluster.swept, alone.swept)
    filled = ", ".join(f"{runs} after {seconds / 60:.1f} min" for seconds, runs in cluster.filled)
    words = (
        f"{killed / 60:.1f} min after the start" if killed is not None else "not at all in this part of the run"
    )
    yield (
        f"- Ray with one worker of one thread on each of two simulated nodes. One worker was ended by SIGKILL {words}, "
        "while it wrote answers; its work went on from the answers that it had kept."
    )
    yield (
        f"- {len(cluster.swept.runs)} of {len(cluster.swept.plan.groups)} passes finished and "
        f"{len(results(cluster.swept))} of {len(cluster.swept.plan.cells)} cells are filled; {len(cluster.swept.failed)} "
        "passes failed."
    )
    yield f"- Finished runs in the history, as the Evaluate page lists them: {filled}."
    yield (
        f"- Against the same sweep in one process with {torch.get_num_threads()} of torch's threads, on "
        f"{alone.swept.plan.sweep.tasks[0].limit} of these examples a task: of {count:,} losses the two differ by "
        f"{largest:.1e} at most; {answers} answers and {verdicts} verdicts of exact match differ."
    )


def _table_lines(made: SweptTable, metric: str) -> Iterator[str]:
    if not made.rows:
        return
    yield ""
    yield f"Table {made.number}, {metric}"
    yield ""
    yield "| " + " | ".join(made.columns) + " |"
    yield "|" + "---|" * len(made.columns)
    for row in made.rows:
        values = [row[column] for column in made.columns]
        cells = (value if isinstance(value, str) else "" if value is None else f"{value:.3f}" for value in values)
        yield "| " + " | ".join(cells) + " |"


def _noise_lines(found: Sequence[CellResult]) -> Iterator[str]:
    for pair in dict.fromkeys((each.cell.adapter, each.cell.task) for each in found):
        mine = {each.cell.variant: each for each in found if (each.cell.adapter, each.cell.task) == pair}
        certain = [each for each in mine.values() if _excludes_zero(each, "loss")]
        better = sum(each.changes["loss"]["mean"] < 0 for each in certain)
        smallest = min(each.holm["exact"] for each in mine.values())
        yield (
            f"- {pair[0]} on {pair[1]}: {len(certain)} of {len(mine)} variants have a 95 % interval of Δ loss without "
            f"zero, {better} of them lower the loss; about {0.05 * len(mine):.0f} would by luck alone. The smallest p of "
            f"exact match, corrected for all {len(mine)}, is {smallest:.2f}."
        )
        drawn = [each for each in mine.values() if each.cell.edit.plan.policy.name == "random_index"]
        for each in drawn:
            low, high = each.changes["loss"]["low"], each.changes["loss"]["high"]
            yield f"  - {each.cell.variant}: Δ loss {each.changes['loss']['mean']:+.4f}, {low:+.4f} … {high:+.4f}."


def _variant_lines(found: Sequence[CellResult]) -> Iterator[str]:
    yield "Δ loss is paired by example, ± one standard error; * marks a 95 % interval without zero."
    yield ""
    yield "| adapter | variant | Δ loss | Δ exact match, points | p, Holm |"
    yield "|---|---|---|---|---|"
    shown = {(each.cell.adapter, each.cell.task, each.cell.variant): each for each in found}
    for (adapter, _, variant), each in shown.items():
        loss, exact = each.changes["loss"], each.changes["exact"]
        mark = " *" if _excludes_zero(each, "loss") else ""
        yield (
            f"| {adapter} | {variant} | {loss['mean']:+.4f} ± {loss['standard_error']:.4f}{mark} | "
            f"{100 * exact['mean']:+.1f} ± {100 * exact['standard_error']:.1f} | {each.holm['exact']:.2f} |"
        )


def _excludes_zero(each: CellResult, metric: str) -> bool:
    change = each.changes[metric]
    return not change["low"] <= 0 <= change["high"]


def _told() -> Control:
    last, step = [""], ""

    def begin(name: str) -> None:
        nonlocal step
        step = name

    def told(done: int, total: int) -> None:
        line = f"{step}: {done} of {total}"
        if line != last[0] and (step == "passes" or done * 10 // max(total, 1) != _tenth(last[0])):
            last[0] = line
            print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)

    return Control(begin=begin, progress=told)


def _tenth(line: str) -> int:
    done, _, total = line.rpartition(": ")[2].partition(" of ")
    return int(done) * 10 // max(int(total), 1) if done.isdigit() else -1


def on_two_nodes(plan: SweepPlan, home: Path) -> Half:
    """The sweep on the cluster, one worker of it killed once half of the runs have ended."""
    os.environ["SURGERY_HOME"] = str(home)
    with two_nodes() as address:
        begun, when = time.monotonic(), []

        def half_way() -> bool:
            due = 2 * sum(run.finished for run in stored_runs()) >= len(plan.groups)
            if due and not when:
                when.append(time.monotonic() - begun)
            return due

        with Killer(runs_folder(), half_way) as killer:
            half = carried_out(plan, on_ray(plan.sweep.resources, address=address))
    half.killed = when[0] if killer.killed else None
    return half


def kept(plan: SweepPlan, home: Path, carry_out: Callable[[SweepPlan, Path], Half]) -> Half:
    """A half that has ended, from its folder, or carried out now and kept there."""
    file = home / "half.json"
    if not file.is_file():
        half = carry_out(plan, home)
        told = {"seconds": half.seconds, "filled": half.filled, "killed": half.killed}
        file.write_text(json.dumps(told), encoding="utf-8")
        return half
    os.environ["SURGERY_HOME"] = str(home)
    told = json.loads(file.read_text(encoding="utf-8"))
    # every run is there already
    swept = run_sweep(plan, in_process, control=_told())
    return Half(swept, told["seconds"], [(seconds, runs) for seconds, runs in told["filled"]], told["killed"])


def in_one_process(plan: SweepPlan, home: Path) -> Half:
    os.environ["SURGERY_HOME"] = str(home)
    return carried_out(plan, in_process)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=int, default=64, help="held-out examples of each task")
    parser.add_argument(
        "--check", type=int, help="of these, as many as the run in one process takes; all without it"
    )
    parser.add_argument("--homes", type=Path, required=True, help="folder for the two histories")
    options = parser.parse_args()
    plans = [expand(read_sweep(SWEEP, limit=limit)) for limit in (options.limit, options.check or options.limit)]
    check(plans[0])
    cluster = kept(plans[0], options.homes / "cluster", on_two_nodes)
    alone = kept(plans[1], options.homes / "alone", in_one_process)
    # runs are read from the history that they lie in
    os.environ["SURGERY_HOME"] = str(options.homes / "cluster")
    print("\n".join(report(cluster, alone, options)))


if __name__ == "__main__":
    main()
