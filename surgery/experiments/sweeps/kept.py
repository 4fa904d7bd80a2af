"""The sweeps that were begun on this machine: what each asks and which runs answer for it, read without its files.

A sweep is a small file beside the list of which run answers for which group; its numbers are those of the runs.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from surgery.edits import edit_record, stored_edit
from surgery.errors import SurgeryError
from surgery.experiments.sweeps.ledger import remembered
from surgery.experiments.sweeps.plan import SweepCell, SweepPlan
from surgery.experiments.sweeps.spec import Refused
from surgery.experiments.sweeps.swept_edit import SweptEdit
from surgery.files import digest, sweeps_folder, write_whole
from surgery.runs import Run

_MOST = 64 << 20  # bytes of a sweep's file: a hundred thousand cells are a fourth of it


@dataclass(frozen=True)
class Answered:
    """A run that has ended, and the variants of a sweep that it answers for on an adapter and a task."""

    adapter: str
    task: str
    variants: tuple[str, ...]
    run: Run


@dataclass(frozen=True)
class KeptGroup:
    """Variants of an adapter on a task, and the key that `remembered` finds their run by."""

    adapter: str
    task: str
    variants: tuple[str, ...]
    key: str


@dataclass(frozen=True)
class KeptSweep:
    """A sweep that was begun; `key` names its file, and `refused` are members that take no part."""

    key: str
    name: str
    started: datetime
    cells: tuple[SweepCell, ...]
    groups: tuple[KeptGroup, ...]
    refused: tuple[Refused, ...]

    @property
    def adapters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(cell.adapter for cell in self.cells))

    @cached_property
    def answered(self) -> tuple[Answered, ...]:
        """The runs that have ended, as they are found when this is first asked for."""
        found = []
        for group in self.groups:
            runs = remembered(group.key)
            if runs is not None and (run := runs[0]).metrics is not None:
                # the list of runs and this file may have been changed: what the run does not hold is not asked of it
                held = tuple(name for name in group.variants if name in run.metrics.summary.variants)
                found.append(Answered(group.adapter, group.task, held, run))
        return tuple(found)


def keep_sweep(plan: SweepPlan, keys: Sequence[str]) -> None:
    """Write what a sweep asks; what cannot be written is let go, and the sweep is then in no list.

    keys: of its groups, in their order.
    """
    written = [json.dumps(_edit_record(cell.edit)) for cell in plan.cells]
    places = {edit: place for place, edit in enumerate(dict.fromkeys(written))}
    asked = {
        "edits": [json.loads(edit) for edit in places],
        "cells": [[cell.adapter, cell.task, places[edit]] for cell, edit in zip(plan.cells, written, strict=True)],
        "groups": [
            [group.adapter.name, group.task.name, list(group.edits), key]
            for group, key in zip(plan.groups, keys, strict=True)
        ],
        "refused": [asdict(each) for each in plan.sweep.refused],
    }
    file = _folder() / f"{digest([json.dumps([plan.sweep.name, asked])])[:24]}.json"
    record = {"name": plan.sweep.name, "started": datetime.now(UTC).isoformat(timespec="seconds"), **asked}
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(record).encode())


def kept_sweeps() -> list[KeptSweep]:
    """The sweeps of this machine, those begun last first; files that are none are left out."""
    found = [sweep for sweep in map(_read, _folder().glob("*.json")) if sweep is not None]
    return sorted(found, key=lambda sweep: (sweep.started, sweep.key), reverse=True)


def _folder() -> Path:
    return sweeps_folder() / "whole"


def _edit_record(edit: SweptEdit) -> dict[str, Any]:
    return {"edit": edit_record(edit.plan), "budget": edit.budget, "seed": edit.seed, "label": edit.label}


def _read(file: Path) -> KeptSweep | None:
    try:
        if file.stat().st_size > _MOST:
            return None
        record = json.loads(file.read_text(encoding="utf-8"))
        edits = [
            SweptEdit(stored_edit(each["edit"]), int(each["budget"]), int(each["seed"]), str(each["label"]))
            for each in record["edits"]
        ]
        return KeptSweep(
            file.stem,
            str(record["name"]),
            datetime.fromisoformat(record["started"]),
            tuple(SweepCell(str(adapter), str(task), edits[place]) for adapter, task, place in record["cells"]),
            tuple(
                KeptGroup(str(adapter), str(task), tuple(map(str, names)), str(key))
                for adapter, task, names, key in record["groups"]
            ),
            tuple(Refused(str(each["name"]), str(each["reason"])) for each in record["refused"]),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SurgeryError):
        return None
