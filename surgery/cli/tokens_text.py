"""Rows as tokens, for a terminal and as a record."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from surgery.model import TokenPreview


def tokens_record(preview: TokenPreview) -> dict[str, Any]:
    """The tokens of the first rows, their ids and which are scored; how many rows there are; what is odd."""
    calibration = preview.calibration
    return {
        "examples": len(calibration.examples),
        "dropped": calibration.dropped,
        "dropped_by_reason": dict(calibration.left_out),
        "notes": list(preview.notes),
        "rows": [{"tokens": [asdict(token) for token in tokens]} for tokens in preview.rows],
    }


def tokens_text(record: Mapping[str, Any]) -> str:
    """A `tokens_record` as lines: a bar between tokens, names of special ones behind them in angle brackets."""
    lines = []
    for number, row in enumerate(record["rows"], start=1):
        tokens = row["tokens"]
        scored = sum(token["scored"] for token in tokens)
        lines.append(f"row {number} of {record['examples']:,}: {len(tokens):,} tokens, {scored:,} scored")
        for is_scored, part in groupby(tokens, key=lambda token: token["scored"]):
            lines.append(f"  {'scored' if is_scored else 'prompt'} {_line(list(part))}")
    return "\n".join([*lines, *(f"note: {note}" for note in record["notes"])])


def _line(tokens: Sequence[Mapping[str, Any]]) -> str:
    return "│".join(
        token["text"].replace("\n", "⏎").replace("\t", "⇥") + (f"⟨{token['name']}⟩" if token["name"] else "")
        for token in tokens
    )
