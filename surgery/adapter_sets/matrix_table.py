"""A matrix of members as a table: a row for every pair, with the measures of both sides and their chance levels."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from surgery.adapter_sets.matrix import Matrix
from surgery.adapter_sets.matrix_values import COSINE, PairValues, matrix_values
from surgery.files import write_named
from surgery.spectra import SIDES

Row = dict[str, str | int | float | None]


def pair_rows(
    matrix: Matrix,
    k: int,
    *,
    family: str | None = None,
    layer: int | None = None,
) -> list[Row]:
    """A row for each two members, over the modules of a scope as `matrix_values` takes it.

    k: of the overlaps. Numbers that there are none of are None.
    """
    found = {
        f"overlap {side}": matrix_values(matrix, "overlap", k, side, family=family, layer=layer) for side in SIDES
    }
    found[COSINE] = matrix_values(matrix, COSINE, k, "output", family=family, layer=layer)
    n = len(matrix.members)
    return [
        {
            "first": matrix.members[i],
            "second": matrix.members[j],
            "k": k,
            "modules": int(found[COSINE].modules[i, j]),
            **{name: number for what, each in found.items() for name, number in _numbers(what, each, i, j)},
        }
        for i in range(n)
        for j in range(i + 1, n)
    ]


def _numbers(what: str, found: PairValues, i: int, j: int) -> list[tuple[str, float | None]]:
    return [(what, _number(found.values[i, j])), (f"{what}, chance", _number(found.chance[i, j]))]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def pairs_csv(rows: Sequence[Row]) -> str:
    """The rows as CSV with a header; empty where there is no number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_pairs(rows: Sequence[Row], file: Path | str) -> Path:
    """Write the rows as CSV, whole or not at all; raises `DataError` where that cannot be done."""
    return write_named(file, pairs_csv(rows).encode())
