"""`surgery runs`: the history, or one run's results."""

import argparse

from surgery.adapter import open_adapter
from surgery.cli.guards import group_result
from surgery.cli.options import Command, Result, kept_run, run_from
from surgery.cli.text import run_record, runs_text
from surgery.files import runs_folder
from surgery.runs import known_runs, stored_group


def runs_command(options: argparse.Namespace) -> Result:
    group = None if options.run is None else stored_group(options.run)
    if group is not None:
        return group_result(group)
    if options.run is not None:
        run = run_from(options)
        return kept_run(run.evaluation, run, f"{run.plan.slice_name}, ")
    digest = open_adapter(options.adapter).digest if options.adapter else None
    runs = known_runs(digest)
    return {"folder": str(runs_folder()), "runs": [run_record(run) for run in runs]}, runs_text(runs)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", nargs="?", help="the name of a run or of a group of runs, for its results")
    parser.add_argument("--adapter", help="only runs of this adapter, named as in inspect")


COMMAND = Command("runs", "the history: every proof that was run, or one of them in full", _options, runs_command)
