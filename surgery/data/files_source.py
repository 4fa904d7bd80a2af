"""Records of one file of JSON lines or parquet, one at a time."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from surgery.data.rows import UnusableRow, parse_record
from surgery.errors import DataError
from surgery.files import parquet_records

SUFFIXES = (".parquet", ".jsonl", ".json")
_LONGEST_LINE = 16 << 20  # characters


def file_records(file: Path, fields: Sequence[str]) -> Iterable[tuple[str, Any]]:
    """Every record with the words for its place; an `UnusableRow` where a line could not be read."""
    if file.suffix.lower() == ".parquet":
        yield from parquet_records(file, fields)
        return
    for number, line in enumerate(_lines(file), start=1):
        if line.strip():
            try:
                record = parse_record(line)
            except UnusableRow as error:
                record = error
            yield f"line {number}", record


def _lines(file: Path) -> Iterable[str]:
    """The lines of a text file, one at a time: a file may be larger than memory."""
    try:
        if file.exists() and not file.is_file():
            raise OSError("no regular file")  # a device or a pipe would be read for ever
        with file.open(encoding="utf-8") as text:
            while line := text.readline(_LONGEST_LINE + 1):
                if len(line) > _LONGEST_LINE:
                    raise DataError(
                        f"{file.name!r} has a line of more than {_LONGEST_LINE:,} characters",
                        "write one JSON object on each line",
                    )
                yield line
    except FileNotFoundError:
        raise DataError(f"no file at {str(file)!r}", "check the path of the JSON-lines file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file.name!r} could not be read as UTF-8 text", "save it as JSON lines") from error
