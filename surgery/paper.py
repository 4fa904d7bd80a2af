"""The paper's Tables 1 to 5 and its follow-up's as data, and what Figures 3 and 4 draw (§5.2, §5.3).

The tables are CSV files as a person types them; `manifest.json` beside them says what the columns
mean and what does not add up. An empty cell is one that our copy of the paper lost.
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from surgery.errors import DataError
from surgery.files import MISSING, shipped_folder

PAPER_FOLDER = shipped_folder("paper")
ALIGNED = ("GSM8K", "HumanEval", "CSQA")
CONSTRAINED = "IFEval"
POLICIES = ("grad_direction", "smooth_abs", "abs_select")
CONTROL = "random_index"
UNEDITED = "baseline"


@dataclass(frozen=True)
class Reference:
    """Where the numbers come from, and how they came here."""

    title: str
    authors: tuple[str, ...]
    where: str
    url: str
    licence: str
    copy: str


@dataclass(frozen=True)
class PaperCell:
    """One number of a table: `method` is its column, `policy` stands only where rows name one.

    `value` is None where our copy of the paper lost it.
    """

    model: str
    task: str
    policy: str
    method: str
    value: float | None


@dataclass(frozen=True)
class PaperTable:
    """One table: its cells row by row, the meaning of its columns, and notes of ours on its numbers."""

    number: int
    title: str
    where: str
    unit: str
    higher_is_better: bool | None
    keys: tuple[str, ...]
    columns: Mapping[str, str]
    notes: tuple[str, ...]
    cells: tuple[PaperCell, ...]
    file: Path

    def value(self, method: str, *, model: str, task: str = "", policy: str = "") -> float | None:
        """The number in one cell; raises `KeyError` for a cell that the table does not have."""
        for cell in self.cells:
            if (cell.model, cell.task, cell.policy, cell.method) == (model, task, policy, method):
                return cell.value
        raise KeyError((model, task, policy, method))

    def records(self) -> list[dict[str, str | float | None]]:
        """The table in its printed form, one record a row."""
        rows: dict[tuple[str, ...], dict[str, str | float | None]] = {}
        for cell in self.cells:
            place = tuple(str(getattr(cell, key)) for key in self.keys)
            row = rows.setdefault(place, dict(zip(self.keys, place, strict=True)))
            row[cell.method] = cell.value
        return list(rows.values())


@dataclass(frozen=True)
class Figure:
    """What a figure is called, where it stands, and notes of ours on it."""

    title: str
    where: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Unstated:
    """A setting that the text at hand leaves open; `ours` is None where nothing takes its place."""

    setting: str
    of: str
    knob: str | None
    ours: float | bool | str | None
    paper: str
    source: str


@dataclass(frozen=True)
class SignalPoint:
    """A point of Figure 3: what a policy gains on a task, and what the random control gains."""

    model: str
    task: str
    gain: float
    random_gain: float


@dataclass(frozen=True)
class TradeOff:
    """A point of Figure 4: mean change over the aligned tasks, and max(0, −change on IFEval)."""

    model: str
    policy: str
    reward: float
    risk: float


@dataclass(frozen=True)
class Paired:
    """A difference on the target in points, paired over the adapters, with its 95 % bootstrap interval."""

    of: str
    against: str
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class FollowUp:
    """The table of the authors' follow-up: points by method and column, and notes of ours on them."""

    title: str
    reference: str
    url: str
    about: str
    columns: Mapping[str, str]
    rows: tuple[Mapping[str, str | float], ...]
    paired: tuple[Paired, ...]
    notes: tuple[str, ...]


@cache
def reference(folder: Path = PAPER_FOLDER) -> Reference:
    """What to cite."""
    record = _manifest(folder)["reference"]
    return Reference(**{**record, "authors": tuple(record["authors"])})


@cache
def tables(folder: Path = PAPER_FOLDER) -> Mapping[int, PaperTable]:
    """The tables by number; raises `DataError` where a file does not hold what the manifest says."""
    return {
        int(number): _table(int(number), entry, folder) for number, entry in _manifest(folder)["tables"].items()
    }


@cache
def figures(folder: Path = PAPER_FOLDER) -> Mapping[int, Figure]:
    """The figures that can be redrawn, by number."""
    found = _manifest(folder)["figures"]
    return {int(n): Figure(entry["title"], entry["where"], tuple(entry["notes"])) for n, entry in found.items()}


@cache
def unstated(folder: Path = PAPER_FOLDER) -> tuple[str, tuple[Unstated, ...]]:
    """What the text leaves open: a remark on all of it, and the settings one by one."""
    record = _read(folder / "unstated.json")
    return record["about"], tuple(Unstated(**setting) for setting in record["settings"])


@cache
def follow_up(folder: Path = PAPER_FOLDER) -> FollowUp:
    """What the paper's authors found later (TTtianTT/peft-sft-lab); raises `DataError` where the file is not whole."""
    record = _read(folder / "follow_up.json")
    wanted = {"method", *record["columns"]}
    for row in record["rows"]:
        if set(row) != wanted or not all(math.isfinite(row[name]) for name in record["columns"]):
            raise DataError(f"follow_up.json holds the row {row}, not numbers for {sorted(wanted)}", MISSING)
    paired = tuple(Paired(**each) for each in record["paired"])
    return FollowUp(**{**record, "rows": tuple(record["rows"]), "paired": paired, "notes": tuple(record["notes"])})


def signal_points(table: PaperTable, policy: str) -> tuple[SignalPoint, ...]:
    """Figure 3 for one policy: both gains are over the unedited adapter; lost cells give no point."""
    points = []
    for model, task in _pairs(table):
        gain, random_gain = (_gain(table, model, task, method) for method in (policy, CONTROL))
        if gain is not None and random_gain is not None:
            points.append(SignalPoint(model, task, gain, random_gain))
    return tuple(points)


def trade_offs(table: PaperTable) -> tuple[TradeOff, ...]:
    """Figure 4: every policy on every model, the control included; lost cells give no point."""
    points = []
    for model in dict.fromkeys(model for model, _ in _pairs(table)):
        for policy in (CONTROL, *POLICIES):
            aligned = [_gain(table, model, task, policy) for task in ALIGNED]
            constrained = _gain(table, model, CONSTRAINED, policy)
            known = [gain for gain in aligned if gain is not None]
            if constrained is not None and len(known) == len(ALIGNED):
                points.append(TradeOff(model, policy, *reward_and_risk(known, constrained)))
    return tuple(points)


def reward_and_risk(aligned: Sequence[float], constrained: float) -> tuple[float, float]:
    """Mean change over the aligned tasks, and max(0, −change) on the constrained one (§5.3)."""
    return float(np.mean(aligned)), max(0.0, -constrained)


def changes(table: PaperTable, baselines: PaperTable) -> PaperTable:
    """The table in percentage points over the unedited adapter of `baselines` (Table 2)."""
    cells = []
    for cell in table.cells:
        before = baselines.value(UNEDITED, model=cell.model, task=cell.task)
        change = None if before is None or cell.value is None else 100 * (cell.value - before)
        if cell.method != UNEDITED:
            cells.append(replace(cell, value=change))
    columns = {name: meaning for name, meaning in table.columns.items() if name != UNEDITED}
    return replace(table, unit="percentage points over the unedited adapter", columns=columns, cells=tuple(cells))


def _gain(table: PaperTable, model: str, task: str, method: str) -> float | None:
    before, after = (table.value(name, model=model, task=task) for name in (UNEDITED, method))
    return None if before is None or after is None else after - before


def _pairs(table: PaperTable) -> Iterable[tuple[str, str]]:
    return dict.fromkeys((cell.model, cell.task) for cell in table.cells)


def _manifest(folder: Path) -> dict[str, Any]:
    return _read(folder / "manifest.json")


def _read(file: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{file.name} of the paper cannot be read ({error})", MISSING) from error
    return record


def _table(number: int, entry: Mapping[str, Any], folder: Path) -> PaperTable:
    file, keys, columns = folder / entry["file"], tuple(entry["keys"]), entry["columns"]
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            rows = list(reader)
    except OSError as error:
        raise DataError(f"{file.name} of the paper cannot be read ({error})", MISSING) from error
    header = tuple(reader.fieldnames or ())
    if header != (*keys, *columns):
        raise DataError(f"{file.name} has the columns {header}, not {(*keys, *columns)}", MISSING)
    places = [tuple(row[key] for key in keys) for row in rows]
    if not rows or len(set(places)) < len(places):
        raise DataError(f"{file.name} holds no row, or one twice", MISSING)
    cells = tuple(
        PaperCell(row["model"], row.get("task", ""), row.get("policy", ""), name, _number(row[name], file.name))
        for row in rows
        for name in columns
    )
    return PaperTable(
        number=number,
        title=entry["title"],
        where=entry["where"],
        unit=entry["unit"],
        higher_is_better=entry["higher_is_better"],
        keys=keys,
        columns=dict(columns),
        notes=tuple(entry["notes"]),
        cells=cells,
        file=file,
    )


def _number(text: str | None, name: str) -> float | None:
    """A finite number, or None for a cell left empty; a cell that is not there at all is refused."""
    if text == "":
        return None
    try:
        value = float(text or "nan")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{name} holds {text!r} where a number belongs", MISSING)
    return value
