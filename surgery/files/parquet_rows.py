"""The records of a parquet file, with no more memory than their texts need.

A few bytes of such a file can stand for any number of equal rows, and a short one for a long text.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from surgery.errors import DataError
from surgery.files.arrow_values import arrow_errors, arrow_record

MOST_RECORDS = 20_000_000
_MOST_BYTES = 384 << 20  # of one row group, unpacked: what the decoder may hold at a time
_BATCH = 1024


def parquet_records(file: Path, fields: Sequence[str] | None) -> Iterable[tuple[str, Any]]:
    """Every record in order with the words for its place; only the columns named have values, None elsewhere.

    `fields` None stands for all. A file with none of them gives its first record only. Raises `DataError` for what is no
    parquet file and for one that unpacks to more than fits.
    """
    with arrow_errors(file, "parquet"):
        import pyarrow.parquet as parquet

        columns = list(parquet.read_schema(file).names)
        read = columns if fields is None else [name for name in fields if name in columns]
        # equal texts stay one text: written out, a thousand of a megabyte are a gigabyte
        opened = parquet.ParquetFile(file, read_dictionary=_texts(parquet.read_metadata(file).schema))
        _check_sizes(opened.metadata, file.name)
        if not read:
            # every row lacks the same, so one tells
            if opened.metadata.num_rows:
                yield "row 1", dict.fromkeys(columns)
            return
        number = 0
        for batch in opened.iter_batches(batch_size=_BATCH, columns=read):
            for at in range(batch.num_rows):
                number += 1
                yield f"row {number}", arrow_record(batch, at, read, columns)


def _texts(schema: Any) -> list[str]:
    """The paths of the columns that hold texts, those inside lists and records too."""
    leaves = [schema.column(at) for at in range(len(schema))]
    return [
        leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type == "STRING"
    ]


def _check_sizes(metadata: Any, name: str) -> None:
    if metadata.num_rows > MOST_RECORDS:
        raise DataError(f"{name!r} claims {metadata.num_rows:,} rows", "use a part of the dataset")
    # a column's own size is not looked at: for some damaged files arrow ends the process there
    largest = max((metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups)), default=0)
    if largest > _MOST_BYTES:
        raise DataError(f"{name!r} has a block of {largest >> 20:,} MiB", "write it with smaller row groups")
