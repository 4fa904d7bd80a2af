"""`surgery microscope`: what one component reads and writes, and which tokens make it harmful."""

import argparse
import csv
import io

from surgery.adapter import Adapter, open_adapter
from surgery.cli.microscope_text import microscope_record, microscope_text
from surgery.cli.options import Command, Result, count, positive
from surgery.cli.progress import progress_reporter
from surgery.data import fetch_source, planned_rows
from surgery.errors import DataError
from surgery.files import user_path, write_named
from surgery.microscope import Look, Subject, chosen_rows, look, look_file, refuse_experts, stored_look
from surgery.model import attach
from surgery.sensitivity import (
    Measurement,
    load_sensitivity,
    measurement_in,
    shipped_measurements,
    stored_measurements,
)
from surgery.spectra import decompose


def microscope_command(options: argparse.Namespace) -> Result:
    adapter = open_adapter(options.adapter, control=progress_reporter())
    measurement = _measurement(adapter, options.sensitivities)
    sensitivity = load_sensitivity(measurement.file)
    rows = chosen_rows(sensitivity, options.module, options.component, options.rows)
    found = _look(adapter, measurement, Subject(sensitivity, options.module, rows))
    record = microscope_record(found, options.component)
    if options.out:
        _write(options.out, found, options.component)
        record["written"] = str(options.out)
    return record, microscope_text(record)


def _look(adapter: Adapter, measurement: Measurement, subject: Subject) -> Look:
    """From the store, or with the base model that the measurement names."""
    stored = stored_look(look_file(subject))
    if stored is not None:
        return stored
    plan, base = measurement.plan, measurement.base
    assert plan is not None
    assert base is not None
    refuse_experts(adapter, subject.module)
    fetch_source(plan.data, progress_reporter())
    slice_ = planned_rows(plan)  # refused before the base model is loaded
    with attach(adapter, decompose(adapter), base, control=progress_reporter()) as live:
        return look(live, plan, subject, slice_=slice_, control=progress_reporter("looking"))


def _measurement(adapter: Adapter, file: str | None) -> Measurement:
    """The named measurement of this adapter, or the newest that is whole; raises `DataError` for any other."""
    if file is None:
        found = [*stored_measurements(adapter.digest), *shipped_measurements(adapter.digest)]
    else:
        one = measurement_in(user_path(file, DataError))
        found = [] if one is None or one.adapter != adapter.digest else [one]
    usable = [each for each in found if each.finished and each.plan is not None and each.base is not None]
    if not usable:
        what = f"{file!r} is no whole measurement of" if file is not None else "nothing is measured of"
        raise DataError(f"{what} this adapter", "write one with: surgery calibrate")
    return usable[0]


def _write(path: str, found: Look, component: int) -> None:
    """The share of every token with every digit, as CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["row", "g", "token", "text", "scored", "share", "reads"])
    start = 0
    for at, row in enumerate(found.rows):
        for number, token in enumerate(found.tokens[at]):
            share, reads = (
                found.seen.shares[start + number, component],
                found.seen.projected[start + number, component],
            )
            g = found.g[at, component]
            words = (row + 1, repr(float(g)), number + 1, token.text or token.name, token.scored)
            table.writerow([*words, repr(float(share)), repr(float(reads))])
        start += found.seen.lengths[at]
    write_named(path, text.getvalue().encode())


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", help="folder, zip, demo:NAME or OWNER/NAME of the hub")
    parser.add_argument("--module", required=True, help="module, by its whole name")
    parser.add_argument("--component", type=count, required=True, help="component, from 0 on")
    parser.add_argument(
        "--rows",
        type=positive,
        default=8,
        help="rows that it harms most, and as many that it helps most (default 8)",
    )
    parser.add_argument(
        "--sensitivities",
        help="file that `surgery calibrate` wrote; without it the newest measurement on this machine",
    )
    parser.add_argument("--out", help="CSV file for the share of every token")


COMMAND = Command(
    "microscope", "look inside a component: tokens, what it reads, what it writes", _options, microscope_command
)
