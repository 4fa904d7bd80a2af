"""`surgery pulls`: which calibration rows an edit, or one component, is expected to help and to hurt."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from surgery.adapter import open_adapter
from surgery.cli.edit import add_edit_options, edit_plan_from, measured_for
from surgery.cli.options import ADAPTER_HELP, Command, Result, finite, positive
from surgery.cli.progress import progress_reporter
from surgery.data import Row
from surgery.edits import Pulls, component_pulls, pulls
from surgery.errors import PolicyError, SurgeryError
from surgery.sensitivity import Conflict, Sensitivity, measured_rows, measurement_in
from surgery.spectra import Spectra, decompose


def pulls_command(options: argparse.Namespace) -> Result:
    adapter = open_adapter(options.adapter, control=progress_reporter())
    spectra, plan = decompose(adapter), edit_plan_from(options)
    file, sensitivity = measured_for(options, adapter, plan, always="a ranking of rows")
    assert file is not None
    assert sensitivity is not None
    if options.component:
        found = component_pulls(spectra, sensitivity, *_component(options.component, spectra), gain=options.gain)
    else:
        found = pulls(plan, spectra, sensitivity)
    rows, notes = _rows(file, sensitivity)
    conflict = sensitivity.moments.of_scope(tuple(found.sigma_after)).conflict
    record = pulls_record(found, None if options.component else conflict, rows, options.rows, notes)
    return record, pulls_text(record)


def _component(text: str, spectra: Spectra) -> tuple[str, int]:
    module, _, number = text.rpartition(":")
    if module not in spectra or not number.isascii() or not number.isdecimal():
        raise PolicyError(
            f"--component {text!r} names no component of this adapter",
            f"write MODULE:NUMBER, such as {next(iter(spectra))}:0",
        )
    return module, int(number)


def _rows(file: Path, sensitivity: Sensitivity) -> tuple[tuple[Row | None, ...], list[str]]:
    """The rows' own words, and why they are missing where they are."""
    about = measurement_in(file)
    if about is None or about.plan is None:
        return (), ["the rows are not shown: the measurement does not say where they came from"]
    try:
        return measured_rows(sensitivity, about.plan), []
    except SurgeryError as error:
        return (), [f"the rows are not shown: {error.problem}"]


def pulls_record(
    found: Pulls, conflict: Conflict | None, rows: tuple[Row | None, ...], count: int, notes: list[str]
) -> dict[str, Any]:
    """Counts, what cancels, how the rows' gradients stand to each other, and the rows at both ends of the ranking."""
    ends = found.ends(count)
    record: dict[str, Any] = {
        "examples": int(found.told.size),
        "helped": int((found.told < 0).sum()),
        "hurt": int((found.told > 0).sum()),
        "cancelled": found.cancelled,
        "held_out": found.fitted and bool(np.isfinite(found.held).all()),
        "shaped_by_rows": found.fitted,
        "most_helped": [_row(found, row, rows) for row in ends[0]],
        "most_hurt": [_row(found, row, rows) for row in ends[1]],
        "notes": notes,
    }
    if conflict is not None:
        numbers = {name: getattr(conflict, name) for name in ("cosine", "by_chance", "opposed", "p")}
        record["conflict"] = {**numbers, "two_groups": conflict.groups is not None}
    return record


def _row(found: Pulls, row: int, rows: tuple[Row | None, ...]) -> dict[str, Any]:
    own = rows[row] if rows else None
    words = {} if own is None else {"prompt": own.prompt, "answer": own.answer}
    return {"row": row + 1, "held_out": found.held[row], "this_edit": found.own[row], **words}


def pulls_text(record: dict[str, Any]) -> str:
    """A `pulls_record` as lines: a number of nats per answer token before the words of each row."""
    how = "by edits that these rows have not shaped"
    if not record["shaped_by_rows"]:
        how = "to first order; no row has shaped this change"
    elif not record["held_out"]:
        how = "by the edit that these very rows have shaped, so it looks too good"
    lines = [
        f"expected to help {record['helped']} of {record['examples']} calibration rows and to hurt {record['hurt']}, {how}"
    ]
    conflict = record.get("conflict")
    if conflict is not None:
        groups = "two groups" if conflict["two_groups"] else "no two groups"
        lines.append(
            f"mean cosine of two rows' gradients {conflict['cosine']:+.3f}, by chance up to {conflict['by_chance']:.3f}; "
            f"{groups} beyond chance (p = {conflict['p']:.2f})"
        )
    for title, name in (("most helped", "most_helped"), ("most hurt", "most_hurt")):
        lines.append(f"{title}, Δ loss in nats per answer token")
        lines += [_line(row, "held_out" if record["held_out"] else "this_edit") for row in record[name]]
    return "\n".join([*lines, *(f"note: {note}" for note in record["notes"])])


def _line(row: dict[str, Any], number: str) -> str:
    words = f"  {' '.join(row['prompt'].split())} → {' '.join(row['answer'].split())}" if "prompt" in row else ""
    return f"  {row[number]:+.4f}  row {row['row']}{words}"


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", help=ADAPTER_HELP)
    parser.add_argument("--rows", type=positive, default=10, help="rows of each kind (default 10)")
    parser.add_argument("--component", metavar="MODULE:NUMBER", help="one component alone, in place of an edit")
    parser.add_argument("--gain", type=finite, default=0.0, help="its gain (default 0, which zeroes it)")
    add_edit_options(parser)


COMMAND = Command(
    "pulls", "which calibration rows an edit is expected to help and to hurt", _options, pulls_command
)
