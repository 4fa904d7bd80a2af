"""`surgery inspect`: one adapter's modules and spectra, or every adapter below a folder."""

import argparse
from typing import Any

from surgery.adapter import open_adapter
from surgery.adapter_sets import (
    AdapterSet,
    compare_members,
    keep_matrix,
    kept_matrix,
    matrix_file,
    open_set,
    pair_rows,
    write_pairs,
)
from surgery.cli.options import ADAPTER_HELP, Command, Result, positive
from surgery.cli.progress import progress_reporter
from surgery.cli.smaller_text import saving_record
from surgery.cli.text import inspection_text
from surgery.errors import DataError
from surgery.export import savings
from surgery.spectra import DEFAULT_K, decompose, inspection


def inspect_command(options: argparse.Namespace) -> Result:
    if (options.adapter is None) == (options.many is None):
        raise DataError("inspect takes one adapter or --many FOLDER", "name one of the two")
    if options.many is not None:
        return _inspect_many(options)
    if options.matrix:
        raise DataError("--matrix compares many adapters", "name a folder of them with --many FOLDER")
    adapter = open_adapter(options.adapter, control=progress_reporter())
    spectra = decompose(adapter)
    record = inspection(adapter, spectra) | {"cuts": [saving_record(each) for each in savings(adapter, spectra)]}
    return record, inspection_text(record)


def _inspect_many(options: argparse.Namespace) -> Result:
    from surgery.spectra import inspect_many, many_record, many_text, ordered_rows, write_parquet

    adapters = None
    if options.matrix:
        adapters = open_set(options.many, control=progress_reporter())
        rows = ordered_rows(member.row for member in adapters.members)
    else:
        rows = inspect_many(options.many, workers=options.workers, control=progress_reporter("inspecting"))
    record = many_record(rows)
    text = many_text(record)
    if options.out:
        record["out"] = str(write_parquet(rows, options.out))
        text += f"\nwrote {record['out']}"
    if adapters is not None:
        record["matrix"] = _matrix(adapters, options)
        text += "\ncompared {compared} adapters at k = {k}; wrote {file}".format(**record["matrix"])
    return record, text


def _matrix(adapters: AdapterSet, options: argparse.Namespace) -> dict[str, Any]:
    """Writes the pairs of the largest group of one base shape; the pages find the comparison again."""
    names = [member.name for member in adapters.alike[0]] if adapters.alike else []
    matrix = kept_matrix(adapters, names)
    if matrix is None:
        matrix = compare_members(adapters, names, control=progress_reporter())
        keep_matrix(matrix, matrix_file(adapters, names))
    k = options.k or min(matrix.ks, key=lambda each: abs(each - DEFAULT_K))
    return {"compared": len(names), "k": k, "file": str(write_pairs(pair_rows(matrix, k), options.matrix))}


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", nargs="?", help=ADAPTER_HELP)
    parser.add_argument("--many", metavar="FOLDER", help="every adapter below a folder instead, one row each")
    parser.add_argument("--out", help="with --many: a Parquet file to write the rows to")
    parser.add_argument(
        "--matrix", metavar="FILE", help="with --many: a CSV file of every pair of one base shape, compared"
    )
    parser.add_argument(
        "--k", type=positive, help=f"with --matrix: leading directions compared (default {DEFAULT_K})"
    )
    parser.add_argument(
        "--workers", type=positive, default=1, help="with --many, without --matrix: processes (default 1)"
    )


COMMAND = Command("inspect", "modules, ranks, scaling, norms and effective ranks", _options, inspect_command)
