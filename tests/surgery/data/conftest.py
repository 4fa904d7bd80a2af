"""Rows in files."""

import json
from pathlib import Path

from surgery.data import (
    RowFields,
)

QA = RowFields("question", "answer")


def write_lines(file: Path, records) -> str:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), encoding="utf-8"
    )
    return str(file)
