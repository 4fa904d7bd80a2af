"""What an edit really changed on single calibration rows, measured when asked for and found again.

It stands beside the pull gᵢ·δ of the edit itself on the same row. It proves nothing: these rows shaped the edit.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import CalibrationPlan
from surgery.errors import DataError
from surgery.evaluation import BASELINE, Marking, evaluate
from surgery.files import digest, row_changes_folder, write_kept
from surgery.model import Variant
from surgery.progress import SILENT, Control
from surgery.sensitivity import Sensitivity, calibration_slice, sigma_identity

if TYPE_CHECKING:
    from surgery.model import LiveModel

_MOST_BYTES = 16 * 2**20  # of a stored file
_EDIT = "edit"


def known_row_changes(sensitivity: Sensitivity, sigma_after: Variant) -> Float64[ndarray, " example"]:
    """The measured change of the loss of every calibration row, in nats per answer token; NaN where none was measured.

    sensitivity: the measurement whose rows these are.
    sigma_after: σ′ of the edit, by module.

    What cannot be read counts as never measured.
    """
    found = np.full(sensitivity.examples, np.nan)
    for row, change in _read(_file(sensitivity, sigma_after), found.size).items():
        found[row] = change
    return found


def measure_row_changes(
    live: "LiveModel",
    plan: CalibrationPlan,
    sensitivity: Sensitivity,
    sigma_after: Variant,
    rows: Sequence[int],
    *,
    batch_size: int = 32,
    control: Control = SILENT,
) -> Float64[ndarray, " example"]:
    """Measure the change of the loss of some calibration rows, those aside that are known, and keep it.

    live: the adapter in its running base model.
    plan: of the measured slice.
    sensitivity: the measurement whose rows these are.
    sigma_after: σ′ of the edit, by module.
    rows: indices of the measurement's examples.
    batch_size: examples of a batch at most.
    control: hears of examples over the edit and the unedited adapter.

    Returns all that is known then, as `known_row_changes`. Raises `DataError` where the source or its encoding gives
    other examples than were measured, and where the result cannot be written; `Cancelled` keeps nothing.
    """
    slice_ = calibration_slice(live, plan)
    if slice_.digest != sensitivity.provenance.examples:
        raise DataError(
            "the rows of the calibration are not those that were measured",
            "calibrate again on the rows as they are",
        )
    known = known_row_changes(sensitivity, sigma_after)
    missing = [row for row in dict.fromkeys(rows) if np.isnan(known[row])]
    if missing:
        asked = replace(slice_, examples=tuple(slice_.examples[row] for row in missing))
        marking = Marking(generate=False)
        found = evaluate(
            live, asked, {_EDIT: sigma_after}, batch_size=batch_size, marking=marking, control=control
        ).scores
        known[missing] = found[_EDIT].loss - found[BASELINE].loss
        _write(_file(sensitivity, sigma_after), known)
    return known


def _file(sensitivity: Sensitivity, sigma_after: Variant) -> Path:
    key = digest([sensitivity.provenance.key, sigma_identity(sigma_after)])[:24]
    return row_changes_folder() / f"{key}.json"


def _read(file: Path, examples: int) -> Mapping[int, float]:
    try:
        if file.stat().st_size > _MOST_BYTES:
            return {}
        record = json.loads(file.read_bytes())
        found = {int(row): float(change) for row, change in record["changes"].items()}
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError):
        return {}
    return {row: change for row, change in found.items() if 0 <= row < examples and math.isfinite(change)}


def _write(file: Path, changes: Float64[ndarray, " example"]) -> None:
    known = {int(row): float(changes[row]) for row in np.flatnonzero(np.isfinite(changes))}
    content = json.dumps({"changes": known}).encode()
    write_kept(file, content, "what was measured", "make room, then ask again")
