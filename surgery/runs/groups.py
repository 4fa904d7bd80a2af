"""Runs that were asked together of the same edits: the edits' own task first, and the guards they are not to hurt.

A group is a small file that names its runs; each of them is a run like any other, resumed and shared as such.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from surgery.evaluation import TaskOutcome, task_outcomes
from surgery.files import digest, groups_folder, write_kept
from surgery.runs.history import known_run
from surgery.runs.runs import Run

_MOST = 1 << 16  # bytes of a group's file


@dataclass(frozen=True)
class RunGroup:
    """Keys of runs: that of the own task, and those of the guards in the order in which they were named."""

    own: str
    guards: tuple[str, ...]

    @property
    def key(self) -> str:
        """The name of the group's file."""
        return digest(["group", self.own, *self.guards])[:24]

    @property
    def runs(self) -> tuple[Run, ...]:
        """Those of its runs that are still there and have ended, the own task's first; none without that one."""
        found = [known_run(key) for key in (self.own, *self.guards)]
        ended = tuple(run for run in found if run is not None and run.finished)
        return ended if ended and ended[0].plan.key == self.own else ()


def keep_group(group: RunGroup) -> RunGroup:
    """Write a group's file; raises `DataError` where that cannot be done."""
    file = groups_folder() / f"{group.key}.json"
    data = json.dumps({"own": group.own, "guards": list(group.guards)}).encode()
    remedy = "make room or check the folder, then start again: its runs are kept"
    write_kept(file, data, "the group of runs", remedy)
    return group


def group_outcomes(runs: Sequence[Run]) -> tuple[TaskOutcome, ...]:
    """What the runs of a group found, the own task's first; raises `DataError` for runs that were changed."""
    own, *guards = ((run.plan.slice_name, run.evaluation) for run in runs)
    return task_outcomes(own, guards)


def group_of(own: str) -> RunGroup | None:
    """The group that was kept last of those whose own task is the run of that key; None without one."""
    return next((group for group in stored_groups() if group.own == own), None)


def stored_group(key: str) -> RunGroup | None:
    """The group of that key; None where there is none."""
    return next((group for group in stored_groups() if group.key == key), None)


def stored_groups() -> list[RunGroup]:
    """Every group of this machine, newest first; files that were changed are none."""
    files = sorted(groups_folder().glob("*.json"), key=_age)
    return [group for group in map(_read, files) if group is not None]


def _age(file: Path) -> float:
    try:
        return -file.stat().st_mtime
    except OSError:
        return 0.0


def _read(file: Path) -> RunGroup | None:
    try:
        if file.stat().st_size > _MOST:
            return None
        record = json.loads(file.read_text(encoding="utf-8"))
        group = RunGroup(str(record["own"]), tuple(map(str, record["guards"])))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return group if group.key == file.stem else None
