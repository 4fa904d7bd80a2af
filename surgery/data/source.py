"""Where rows come from: a file, a folder that `datasets` saved, a demo's slice or a dataset of the hub.

A record becomes rows by its format. Records that give none are left out and counted by reason.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from surgery.data.files_source import file_records
from surgery.data.formats import PLAIN_FIELDS, RowFields
from surgery.data.hub_source import folder_files, hub_files, is_hub, parse_hub
from surgery.data.rows import NO_FIELD, Row, UnusableRow
from surgery.errors import DataError
from surgery.files import MOST_RECORDS, data_file, user_path

_MOST_CHARACTERS = 256 << 20  # of all rows that are kept
_LOOKED_AT = 32  # records that tell the format


@dataclass(frozen=True)
class SourceRows:
    """The rows of a source, how many records were left out by reason, and what the first of them lacks.

    `names` are the fields of the first record that could be read, so that a person can choose among them; `fields`
    has the format that was found.
    """

    rows: tuple[Row, ...]
    left_out: Mapping[str, int]
    problem: str
    names: tuple[str, ...]
    fields: RowFields


def read_source(source: str, fields: RowFields = PLAIN_FIELDS, *, download: bool = True) -> SourceRows:
    """Read every row of a source, in its order.

    source: a file as `files_source` reads it, a folder that `datasets` saved or a copy of a dataset, each with
        `:SPLIT` behind it where it has several, `demo:NAME/SLICE`, or a split of a dataset as `HubSource` writes it.
    fields: the format of its records, where that is not to be found by them.
    download: fetch a dataset that is not in the cache of huggingface_hub; without, `NotFetchedError` says that it
        is not there.

    Raises `DataError` when nothing is there or no record gives a row.
    """
    files = source_files(source, download=download)
    name = source if is_hub(source) else files[0].name
    fields = fields.of(record for _, record in islice(_records(files, None), _LOOKED_AT))
    rows: list[Row] = []
    characters = 0
    left_out: Counter[str] = Counter()
    names: tuple[str, ...] = ()
    first: tuple[str, str] | None = None
    for where, record in _records(files, fields):
        try:
            if isinstance(record, UnusableRow):
                raise record
            if not names and isinstance(record, dict):
                names = tuple(str(name) for name in record)
            found = fields.rows(record)
        except UnusableRow as error:
            left_out[error.reason] += 1
            first = first or (f"{where} {error.problem}", error.remedy)
            continue
        rows += found
        characters += sum(len(row.prompt) + len(row.answer) for row in found)
        if characters > _MOST_CHARACTERS or len(rows) > MOST_RECORDS:
            raise DataError(f"{name!r} holds more rows than fit", "use a part of the dataset")
    if rows:
        return SourceRows(tuple(rows), dict(left_out), first[0] if first else "", names, fields)
    raise _nothing(name, names, left_out, first)


def read_rows(source: Path | str) -> list[Row]:
    """All rows of a source, of which none may be odd; raises `DataError` naming the first that is, with its place."""
    found = read_source(str(source))
    if found.left_out:
        raise DataError(found.problem, "mend the record, or leave it out")
    return list(found.rows)


def _records(files: list[Path], fields: RowFields | None) -> Iterator[tuple[str, Any]]:
    """Every record with the words for its place; only what `fields` read of it, where they are given."""
    for file in files:
        for where, record in file_records(file, None if fields is None else fields.columns):
            yield f"{where} of {file.name!r}", record


def _nothing(
    name: str, names: tuple[str, ...], left_out: Mapping[str, int], first: tuple[str, str] | None
) -> DataError:
    """Why a source gives no row."""
    if first is None:
        return DataError(f"{name!r} holds no rows", 'add lines like {"prompt": "2 + 2 =", "answer": "4"}')
    if left_out.get(NO_FIELD) and names:
        shown = ", ".join(repr(field) for field in names[:12])
        return DataError(
            first[0], f"name the fields that hold prompt and answer, or another format: the rows have {shown}"
        )
    return DataError(*first)


def source_files(source: str, *, download: bool = True) -> list[Path]:
    """The files behind a source, in order; a file that was named need not exist. Raises as `read_source` does."""
    if is_hub(source):
        return hub_files(parse_hub(source), download)
    file = data_file(source)
    if file.is_dir():
        return folder_files(file)
    folder, _, split = source.rpartition(":")
    if folder and not file.exists() and user_path(folder, DataError).is_dir():
        return folder_files(user_path(folder, DataError), split)
    return [file]
