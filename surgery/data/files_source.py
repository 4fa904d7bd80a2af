"""Records of one file, one at a time: JSON lines or an array, a table of texts, words in columns, parquet or arrow."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from surgery.data.column_files import column_records
from surgery.data.json_array import array_items
from surgery.data.rows import UnusableRow, parse_record
from surgery.data.tables import table_records
from surgery.errors import DataError
from surgery.files import MOST_RECORDS, arrow_records, open_text, parquet_records, text_lines

_COLUMNS = (".conll", ".iob", ".bio")
_TEXTS = (".jsonl", ".json", ".csv", ".tsv", *_COLUMNS)
_MOST_BLANK = 1 << 16
# the first of them that a split has is read
SUFFIXES = (".parquet", ".arrow", *chain.from_iterable((suffix, f"{suffix}.gz") for suffix in _TEXTS))


def file_records(file: Path, fields: Sequence[str] | None) -> Iterable[tuple[str, Any]]:
    """Every record with the words for its place; an `UnusableRow` where one could not be read.

    `fields` are the names that are wanted of each, None for all: others may be None. Raises `DataError` for a file
    that cannot be read and for more records than fit.
    """
    for number, found in enumerate(_records(file, fields), start=1):
        if number > MOST_RECORDS:
            raise DataError(f"{file.name!r} holds more records than fit", "use a part of the dataset")
        yield found


def _records(file: Path, fields: Sequence[str] | None) -> Iterator[tuple[str, Any]]:
    kind = Path(file.name.lower().removesuffix(".gz")).suffix
    if kind == ".parquet":
        yield from parquet_records(file, fields)
    elif kind == ".arrow":
        yield from arrow_records(file, fields)
    else:
        read = _json_records
        if kind in (".csv", ".tsv"):
            read = table_records
        elif kind in _COLUMNS:
            read = column_records
        with open_text(file) as text:
            yield from read(text, file.name)


def _json_records(text: TextIO, name: str) -> Iterator[tuple[str, Any]]:
    """The records of JSON lines, or the items of an array where the first character opens one."""
    blank = ""
    while (first := text.read(1)).isspace():
        blank += first
        if len(blank) > _MOST_BLANK:
            raise DataError(f"{name!r} begins with more than {_MOST_BLANK:,} blanks", "leave them out")
    if first == "[":
        for number, item in enumerate(array_items(text, name), start=1):
            yield f"item {number}", _parsed(item)
        return
    lines = chain([first + next(text_lines(text, name), "")], text_lines(text, name))
    for number, line in enumerate(lines, start=1 + blank.count("\n")):
        if number > MOST_RECORDS:
            raise DataError(f"{name!r} has more lines than fit", "use a part of the dataset")
        if line.strip():
            yield f"line {number}", _parsed(line)


def _parsed(text: str) -> Any:
    try:
        return parse_record(text)
    except UnusableRow as error:
        return error
