"""`surgery sweep`: a grid of edits."""

import argparse
import sys
from dataclasses import asdict

from surgery.cli.options import Result
from surgery.cli.text import progress_reporter
from surgery.errors import SweepError


def sweep_command(options: argparse.Namespace) -> Result:
    from importlib.util import find_spec

    from surgery.experiments.sweeps import (
        check,
        cost,
        cost_text,
        expand,
        failures,
        finished,
        in_process,
        on_ray,
        read_sweep,
        results,
        run_sweep,
        sweep_record,
        sweep_text,
        write_tables,
    )

    sweep = read_sweep(options.sweep, limit=options.limit, examples=options.examples)
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
    record, text = sweep_record(swept, found, expected), sweep_text(swept, found, expected)
    if options.tables:
        written = [str(file) for file in write_tables(found, options.tables)]
        record["written"] = written
        text += "\nwrote " + ", ".join(written)
    return record, text
