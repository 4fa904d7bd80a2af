"""`surgery sweep`: a grid of edits, or recipes on every adapter of a folder."""

import argparse
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from surgery.cli.options import Command, Result, positive
from surgery.cli.progress import progress_reporter
from surgery.errors import SweepError
from surgery.files import shipped_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.experiments.sweeps import CellResult, Evidence, GuardedCells, Sweep, SweepPlan, Swept

_MOST_COLUMNS = 4  # methods side by side in a terminal


def sweep_command(options: argparse.Namespace) -> Result:
    from surgery.experiments.sweeps import (
        check,
        cost,
        cost_text,
        evidence,
        expand,
        finished,
        guard_rows,
        guarded_cells,
        guards_text,
        pinned_sweep,
        refused_text,
        results,
        so_far,
        sweep_record,
        sweep_text,
    )

    plan = expand(pinned_sweep(_asked(options), progress_reporter()))
    check(plan)
    known = [group for group, run in zip(plan.groups, finished(plan.groups), strict=True) if run is not None]
    expected = cost(plan, known)
    told = "\n".join(filter(None, [refused_text(plan.sweep), cost_text(expected)]))
    if options.dry_run:
        return {"cost": asdict(expected), "refused": [asdict(each) for each in plan.sweep.refused]}, told
    print(told, file=sys.stderr)
    swept = so_far(plan) if options.so_far else _carried_out(plan, options)
    found = results(swept)
    guarded = guarded_cells(swept)
    record = {**sweep_record(swept, found, expected), "guards": guard_rows(guarded)}
    text = sweep_text(swept, found, expected) + guards_text(guarded)
    beside = evidence(found) if options.tables or len(plan.sweep.adapters) > 1 else ()
    text += _evidence_text(record, beside, plan.sweep)
    if options.tables:
        record["written"] = _tables(found, guarded, beside, plan.sweep, options.tables)
        text += "\nwrote " + ", ".join(record["written"])
    return record, text


def _asked(options: argparse.Namespace) -> "Sweep":
    """The sweep of the file, or that of the folder and the recipes."""
    from surgery.experiments.sweeps import read_sweep, sweep_of_set

    bounds = {"limit": options.limit, "examples": options.examples}
    if options.sweep and not options.set and not options.recipe:
        return read_sweep(options.sweep, **bounds)
    if options.set and options.recipe and not options.sweep:
        return sweep_of_set(options.set, options.recipe, **bounds)
    raise SweepError(
        "a sweep is asked by a file, or by a folder of adapters and recipes",
        "give a sweep.yaml alone, or --set FOLDER --recipe recipe.yaml",
    )


def _carried_out(plan: "SweepPlan", options: argparse.Namespace) -> "Swept":
    from importlib.util import find_spec

    from surgery.experiments.sweeps import failures, in_process, on_ray, run_sweep

    # without an address, a machine that has no Ray does the same work in this process
    alone = options.in_process or (options.address is None and find_spec("ray") is None)
    resources = plan.sweep.resources
    runner = in_process if alone else on_ray(resources, address=options.address, workers=options.workers)
    swept = run_sweep(plan, runner, control=progress_reporter())
    if swept.failed and not swept.runs:
        first = failures(swept)[0]
        raise SweepError(
            f"every pass failed, first {first['adapter']} on {first['task']}: {first['problem']}",
            "mend the cause and start it again",
        )
    return swept


def _evidence_text(record: dict[str, Any], beside: "tuple[Evidence, ...]", sweep: "Sweep") -> str:
    """Methods against adapters, put into a sweep's record, and as text where they fit beside each other."""
    from surgery.experiments.sweeps import evidence_markdown, evidence_record

    record |= {"evidence": evidence_record(beside), "refused": [asdict(each) for each in sweep.refused]}
    if beside and max(len(each.methods) for each in beside) <= _MOST_COLUMNS:
        return "\n\n" + evidence_markdown(beside, sweep.refused)
    return ""


def _tables(
    found: "Sequence[CellResult]",
    guarded: "Sequence[GuardedCells]",
    beside: "Sequence[Evidence]",
    sweep: "Sweep",
    folder: str,
) -> list[str]:
    """The names of the files of a sweep's tables, written into a folder."""
    from surgery.experiments.sweeps import write_evidence, write_guards, write_tables

    files = [
        *write_tables(found, folder),
        *write_evidence(beside, sweep.refused, folder),
        *write_guards(guarded, folder),
    ]
    return [str(file) for file in files]


def _options(parser: argparse.ArgumentParser) -> None:
    example = str(shipped_folder("sweeps") / "demos.yaml").replace("%", "%%")  # argparse fills in its own words
    parser.add_argument("sweep", nargs="?", help=f"a sweep.yaml, such as {example}")
    parser.add_argument("--set", metavar="FOLDER", help="every adapter at or below this folder, with --recipe")
    parser.add_argument(
        "--recipe",
        nargs="+",
        action="extend",
        help="recipe files: each is redone on every adapter of --set, from the adapter's own sensitivities",
    )
    parser.add_argument("--limit", type=positive, help="held-out examples of every task, whatever the file says")
    parser.add_argument("--examples", type=positive, help="no calibration budget is larger")
    parser.add_argument("--dry-run", action="store_true", help="tell what it would cost, and stop")
    parser.add_argument("--so-far", action="store_true", help="results of what has ended, and run nothing")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--in-process", action="store_true", help="without Ray, one pass after another")
    where.add_argument("--address", help="a Ray cluster (default: Ray on this machine)")
    parser.add_argument("--workers", type=positive, default=2, help="Ray workers on this machine (default 2)")
    parser.add_argument(
        "--tables",
        help="folder to write methods against adapters (Markdown, CSV), the paper's Tables 2 to 5 and the guards (CSV) to",
    )


COMMAND = Command(
    "sweep",
    "adapters × tasks × edits as a file lists them, or recipes on every adapter of a folder",
    _options,
    sweep_command,
)
