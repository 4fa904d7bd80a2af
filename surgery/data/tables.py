"""Records of a table of texts, as CSV and TSV have them: a line of names, and a line of cells for each record."""

import csv
from collections.abc import Iterator
from itertools import chain
from typing import Any, TextIO

from surgery.data.rows import UNREADABLE, UnusableRow
from surgery.errors import DataError
from surgery.files import LONGEST_LINE, text_lines

_DELIMITERS = ",;\t|"
_MOST_LINES = 1 << 19  # of one record


def table_records(text: TextIO, name: str) -> Iterator[tuple[str, Any]]:
    """Every record by the names of the first line; an `UnusableRow` for one with more cells than those.

    The delimiter is the one that the first line has most of. Raises `DataError` for what is no table; `name` is
    used in messages only.
    """
    lines = text_lines(text, name)
    first = next(lines, "")
    delimiter = max(_DELIMITERS, key=first.count)
    # of all readers of this process: its default is below a long text
    csv.field_size_limit(LONGEST_LINE)
    source = _Lines(chain([first], lines), name)
    reader = csv.reader(source, delimiter=delimiter)
    try:
        names = next(reader, [])
        for cells in reader:
            source.begin()
            if len(cells) > len(names):
                problem = f"has {len(cells)} cells for {len(names)} names"
                yield (
                    f"line {reader.line_num}",
                    UnusableRow(UNREADABLE, problem, "put quotes around texts that hold the delimiter"),
                )
            elif cells:
                yield f"line {reader.line_num}", dict(zip(names, cells, strict=False))
    except csv.Error as error:
        raise DataError(
            f"line {reader.line_num} of {name!r} is no line of a table ({error})", "mend it"
        ) from error


class _Lines:
    """Lines, as long as those of one record stay within bounds: in quotes it may have any number of them."""

    def __init__(self, lines: Iterator[str], name: str) -> None:
        self._lines = lines
        self._name = name
        self.begin()

    def begin(self) -> None:
        """Begin another record."""
        self._characters = self._count = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._characters += len(line)
        self._count += 1
        if self._characters > LONGEST_LINE or self._count > _MOST_LINES:
            raise DataError(
                f"{self._name!r} has a record of more than {LONGEST_LINE:,} characters or {_MOST_LINES:,} lines",
                "close the quotes that it begins with",
            )
        return line
