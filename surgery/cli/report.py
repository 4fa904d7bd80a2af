"""`surgery report`: a finished run as one HTML file."""

import argparse
from pathlib import Path

from surgery.cli.app_process import part_of_app
from surgery.cli.options import Command, Result, run_from
from surgery.files import user_path


def report_command(options: argparse.Namespace) -> Result:
    run = run_from(options)
    file = user_path(options.out or f"{run.plan.key}.html")
    size = part_of_app("app.report").write_report(run, file)
    return {"run": run.plan.key, "out": str(file), "bytes": size}, f"wrote {file}, {size / 1e6:.1f} MB"


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a run's name, as `surgery runs` lists it")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the HTML file (default: RUN.html in this folder)"
    )


COMMAND = Command(
    "report",
    "a run as one HTML file that needs no network: verdict, tables, figures, answers, digests",
    _options,
    report_command,
)
