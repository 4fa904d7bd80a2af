"""Where rows come from: JSON lines, parquet, a demo's slice or a dataset of the hub.

A record becomes a row by the fields named for prompt and answer. Records that give none are left out
and counted by reason; the strict reader of evaluation rows is `rows.read_rows`.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from surgery.data.files_source import file_records
from surgery.data.hub_source import hub_files, is_hub, parse_hub
from surgery.data.rows import NO_FIELD, PLAIN_FIELDS, Row, RowFields, UnusableRow
from surgery.errors import DataError
from surgery.files import MOST_RECORDS, data_file

_MOST_CHARACTERS = 256 << 20  # of all rows that are kept


@dataclass(frozen=True)
class SourceRows:
    """The rows of a source, how many records were left out by reason, and what the first of them lacks.

    `names` are the fields of the first record that could be read, so that a person can choose among them.
    """

    rows: tuple[Row, ...]
    left_out: Mapping[str, int]
    problem: str
    names: tuple[str, ...]


def read_source(source: str, fields: RowFields = PLAIN_FIELDS, *, download: bool = True) -> SourceRows:
    """Read every row of a source, in its order.

    `source` is a `.jsonl`, `.json` (JSON lines) or `.parquet` file, `demo:NAME/SLICE`, or a split of a
    dataset as `HubSource` writes it. A dataset is looked up in the cache of huggingface_hub and, with
    `download`, fetched there; without, `NotFetchedError` says that it is not there. Raises `DataError` when nothing is there or no record gives a row.
    """
    files = source_files(source, download=download)
    rows: list[Row] = []
    characters = 0
    left_out: Counter[str] = Counter()
    names: tuple[str, ...] = ()
    first: tuple[str, str] | None = None
    for file in files:
        for where, record in file_records(file, fields.names):
            try:
                if isinstance(record, UnusableRow):
                    raise record
                if not names and isinstance(record, dict):
                    names = tuple(str(name) for name in record)
                row = fields.row(record)
                characters += len(row.prompt) + len(row.answer)
                if characters > _MOST_CHARACTERS or len(rows) >= MOST_RECORDS:
                    raise DataError(f"{file.name!r} holds more rows than fit", "use a part of the dataset")
                rows.append(row)
            except UnusableRow as error:
                left_out[error.reason] += 1
                first = first or (f"{where} of {file.name!r} {error.problem}", error.remedy)
    name = source if is_hub(source) else files[0].name
    if not rows:
        if first is None:
            raise DataError(f"{name!r} holds no rows", 'add lines like {"prompt": "2 + 2 =", "answer": "4"}')
        if left_out[NO_FIELD] and names:
            shown = ", ".join(repr(field) for field in names[:12])
            raise DataError(first[0], f"name the fields that hold prompt and answer: the rows have {shown}")
        raise DataError(*first)
    return SourceRows(tuple(rows), dict(left_out), first[0] if first else "", names)


def source_files(source: str, *, download: bool = True) -> list[Path]:
    """The files behind a source, in order; a file that was named need not exist. Raises as `read_source` does."""
    return hub_files(parse_hub(source), download) if is_hub(source) else [data_file(source)]
