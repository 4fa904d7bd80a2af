"""Tables of a sweep as files of a folder that a person names."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from surgery.errors import SweepError
from surgery.files import user_path, write_whole


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as CSV below a header."""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return lines.getvalue()


def write_files(folder: Path | str, texts: Mapping[str, str], what: str) -> list[Path]:
    """Write texts under their names below a folder, each whole or not at all, and return where they stand.

    Raises `SweepError`, which names `what`, where that cannot be done.
    """
    place = user_path(folder, SweepError)
    try:
        for name, text in texts.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            write_whole(place / name, text.encode())
    except OSError as error:
        raise SweepError(
            f"{what} cannot be written to {str(folder)!r} ({error.strerror})", "choose another folder"
        ) from error
    return [place / name for name in texts]
