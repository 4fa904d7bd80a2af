"""`surgery inspect`: one adapter's modules and spectra, or every adapter below a folder."""

import argparse

from surgery.adapter import open_adapter
from surgery.cli.options import Result
from surgery.cli.text import inspection_text, progress_reporter
from surgery.errors import DataError
from surgery.spectra import decompose, inspection


def inspect_command(options: argparse.Namespace) -> Result:
    if (options.adapter is None) == (options.many is None):
        raise DataError("inspect takes one adapter or --many FOLDER", "name one of the two")
    if options.many is not None:
        return _inspect_many(options)
    adapter = open_adapter(options.adapter)
    record = inspection(adapter, decompose(adapter))
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
