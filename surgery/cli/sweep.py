"""`surgery sweep`: a grid of edits."""

import argparse
import sys
from dataclasses import asdict

from surgery.cli.options import Command, Result, positive
from surgery.cli.progress import progress_reporter
from surgery.errors import SweepError
from surgery.files import shipped_folder


def sweep_command(options: argparse.Namespace) -> Result:
    from importlib.util import find_spec

    from surgery.experiments.sweeps import (
        check,
        cost,
        cost_text,
        expand,
        failures,
        finished,
        guard_rows,
        guarded_cells,
        guards_text,
        in_process,
        on_ray,
        pinned_sweep,
        read_sweep,
        results,
        run_sweep,
        sweep_record,
        sweep_text,
        write_guards,
        write_tables,
    )

    sweep = read_sweep(options.sweep, limit=options.limit, examples=options.examples)
    sweep = pinned_sweep(sweep, progress_reporter())
    plan = expand(sweep)
    check(plan)
    known = [group for group, run in zip(plan.groups, finished(plan.groups), strict=True) if run is not None]
    expected = cost(plan, known)
    if options.dry_run:
        return {"cost": asdict(expected)}, cost_text(expected)
    print(cost_text(expected), file=sys.stderr)
    # without an address, a machine that has no Ray does the same work in this process
    alone = options.in_process or (options.address is None and find_spec("ray") is None)
    runner = in_process if alone else on_ray(sweep.resources, address=options.address, workers=options.workers)
    swept = run_sweep(plan, runner, control=progress_reporter())
    found = results(swept)
    if swept.failed and not found:
        first = failures(swept)[0]
        raise SweepError(
            f"every pass failed, first {first['adapter']} on {first['task']}: {first['problem']}",
            "mend the cause and start it again",
        )
    guarded = guarded_cells(swept)
    record = {**sweep_record(swept, found, expected), "guards": guard_rows(guarded)}
    text = sweep_text(swept, found, expected) + guards_text(guarded)
    if options.tables:
        files = [*write_tables(found, options.tables), *write_guards(guarded, options.tables)]
        written = [str(file) for file in files]
        record["written"] = written
        text += "\nwrote " + ", ".join(written)
    return record, text


def _options(parser: argparse.ArgumentParser) -> None:
    example = str(shipped_folder("sweeps") / "demos.yaml").replace("%", "%%")  # argparse fills in its own words
    parser.add_argument("sweep", help=f"a sweep.yaml, such as {example}")
    parser.add_argument("--limit", type=positive, help="held-out examples of every task, whatever the file says")
    parser.add_argument("--examples", type=positive, help="no calibration budget is larger")
    parser.add_argument("--dry-run", action="store_true", help="tell what it would cost, and stop")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--in-process", action="store_true", help="without Ray, one pass after another")
    where.add_argument("--address", help="a Ray cluster (default: Ray on this machine)")
    parser.add_argument("--workers", type=positive, default=2, help="Ray workers on this machine (default 2)")
    parser.add_argument("--tables", help="folder to write the paper's Tables 2 to 5 and the guards to, as CSV")


COMMAND = Command("sweep", "adapters × tasks × edits as a file lists them", _options, sweep_command)
