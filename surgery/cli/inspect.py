"""`surgery inspect`: one adapter's modules and spectra, or every adapter below a folder."""

import argparse

from surgery.adapter import open_adapter
from surgery.cli.options import ADAPTER_HELP, Command, Result, positive
from surgery.cli.progress import progress_reporter
from surgery.cli.smaller_text import saving_record
from surgery.cli.text import inspection_text
from surgery.errors import DataError
from surgery.export import savings
from surgery.spectra import decompose, inspection


def inspect_command(options: argparse.Namespace) -> Result:
    if (options.adapter is None) == (options.many is None):
        raise DataError("inspect takes one adapter or --many FOLDER", "name one of the two")
    if options.many is not None:
        return _inspect_many(options)
    adapter = open_adapter(options.adapter, control=progress_reporter())
    spectra = decompose(adapter)
    record = inspection(adapter, spectra) | {"cuts": [saving_record(each) for each in savings(adapter, spectra)]}
    return record, inspection_text(record)


def _inspect_many(options: argparse.Namespace) -> Result:
    from surgery.spectra import inspect_many, many_record, many_text, write_parquet

    rows = inspect_many(options.many, workers=options.workers, control=progress_reporter("inspecting"))
    record = many_record(rows)
    text = many_text(record)
    if options.out:
        record["out"] = str(write_parquet(rows, options.out))
        text += f"\nwrote {record['out']}"
    return record, text


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", nargs="?", help=ADAPTER_HELP)
    parser.add_argument("--many", metavar="FOLDER", help="every adapter below a folder instead, one row each")
    parser.add_argument("--out", help="with --many: a Parquet file to write the rows to")
    parser.add_argument("--workers", type=positive, default=1, help="with --many: processes (default 1)")


COMMAND = Command("inspect", "modules, ranks, scaling, norms and effective ranks", _options, inspect_command)
