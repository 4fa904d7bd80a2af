"""The record of an export: which adapter was edited, how, and the digests of the rows that the edit was made on.

It stands beside the weights, so that an edit is not proven on the rows it was made on, wherever the folder goes.
It names rows by what they say and by nothing else: no path in it, nor in the recipe beside it, is followed.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from surgery.data import CalibrationPlan, TaskPlan, calibration_rows, rows_digest, seen_keys
from surgery.edits import EditPlan, edit_record, stored_edit
from surgery.errors import DataError, SurgeryError
from surgery.files import read_limited
from surgery.recipes import Recipe
from surgery.sensitivity import Sensitivity

RECORD_FILE = "surgery.json"
_FORMAT = "surgery-export-1"
_MOST_BYTES = 64 << 20
_KEY = re.compile(r"[0-9a-f]{32}")
Keys = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class ExportRecord:
    """What an exported folder says of its edit.

    `adapter` is the digest of the original. `rows` are the content digests of the rows that the edit was made on,
    several a row, by the name of their slice; `unknown` are slices whose rows could not be told. `measured` is the
    provenance of the sensitivities, empty where none were read.
    """

    adapter: str
    edit: EditPlan
    rows: Mapping[str, Keys] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)

    unknown: tuple[str, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """All digests of all slices."""
        return frozenset(key for keys in self.rows.values() for row in keys for key in row)


def record_of(
    adapter: str, edit: EditPlan, sensitivity: Sensitivity | None, recipe: Recipe | None = None
) -> ExportRecord:
    """The record of an edit.

    adapter: digest of the original.
    edit: what was done.
    sensitivity: what the edit read, where it read any.
    recipe: names the slices, whose sources are read for digests that the sensitivity does not have.
    """
    rows: dict[str, Keys] = {}
    if sensitivity is not None:
        plan = recipe.calibration if recipe is not None else None
        rows["calibration"] = sensitivity.keys or _keys_from(plan, sensitivity.rows)
        for i, beside in enumerate(sensitivity.protected):
            plan = recipe.protected[i] if recipe is not None and i < len(recipe.protected) else None
            rows[f"protected {i + 1}"] = beside.keys or _keys_from(plan, beside.rows)
    if recipe is not None and recipe.tuning is not None:
        rows["tuning"] = _keys_from(recipe.tuning)
    for i, chosen in enumerate(recipe.chosen if recipe is not None else ()):
        rows[f"chosen {i + 1}"] = _keys_from(chosen)
    measured = {} if sensitivity is None else _told(sensitivity)
    known = {name: keys for name, keys in rows.items() if keys}
    return ExportRecord(adapter, edit, known, measured, tuple(name for name in rows if name not in known))


def turned_documents(adapter: str, edit: EditPlan, sensitivity: Sensitivity) -> dict[str, str]:
    """What is written beside an activation-aware cut, whose directions are its own: its record, and no recipe.

    adapter: digest of the original.
    edit: the cut of rank.
    sensitivity: whose moments turned the directions.
    """
    record = record_of(adapter, edit, sensitivity)
    told = replace(record, measured={**record.measured, "directions": "turned by an activation-aware cut"})
    return {RECORD_FILE: dump_record(told)}


def _told(sensitivity: Sensitivity) -> dict[str, Any]:
    """Provenance and rows of a measurement, without what only later ones have."""
    found = {**asdict(sensitivity.provenance), "rows": sensitivity.rows}
    return {name: value for name, value in found.items() if value is not None}


def _keys_from(plan: CalibrationPlan | TaskPlan | None, measured: str = "") -> Keys:
    """Digests of a slice's rows, read from its source; none where that is gone or gives other rows than the `measured`.

    Documents of a task are known where it is loaded, and not here.
    """
    if not isinstance(plan, CalibrationPlan):
        return ()
    try:
        rows = calibration_rows(plan)
    except DataError:
        return ()
    return tuple(map(seen_keys, rows)) if measured in ("", rows_digest(rows)) else ()


def dump_record(record: ExportRecord) -> str:
    """The record as JSON text; `read_record` reads it. The same edit gives the same text."""
    told = {
        "format": _FORMAT,
        "adapter": record.adapter,
        "edit": edit_record(record.edit),
        "measured": dict(record.measured),
        "rows": {name: [list(row) for row in keys] for name, keys in record.rows.items()},
        "unknown": list(record.unknown),
    }
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def read_record(folder: Path) -> ExportRecord | None:
    """The record in a folder; None where there is none. Raises `DataError` for one that cannot be read."""
    file = folder / RECORD_FILE
    try:
        told = json.loads(read_limited(file, _MOST_BYTES))
        if told["format"] != _FORMAT:
            raise ValueError("another format")
        rows = {str(name): tuple(map(_row, keys)) for name, keys in told["rows"].items()}
        unknown = tuple(map(str, told["unknown"]))
        return ExportRecord(str(told["adapter"]), stored_edit(told["edit"]), rows, dict(told["measured"]), unknown)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SurgeryError) as error:
        raise DataError(
            f"{RECORD_FILE} of {folder.name!r} cannot be read ({str(error)[:80]})",
            "export the edit again: it names the rows that the edit was made on",
        ) from error


def _row(keys: Iterable[Any]) -> tuple[str, ...]:
    found = tuple(keys)
    if not all(isinstance(key, str) and _KEY.fullmatch(key) for key in found):
        raise ValueError("a digest of a row is none")
    return found
