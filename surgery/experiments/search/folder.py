"""One folder for every search, among those of the runs, named by all that its numbers depend on.

    search.json    what is searched, when it was begun, on which adapter
    study.journal  Optuna's study: what was proposed and what came of it
    answers.jsonl  every measured part of the rows; open for one writer at a time

The same search finds its folder again and goes on, whatever its limits are now.
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from surgery.errors import DataError
from surgery.experiments.search.front import Trial
from surgery.experiments.search.plan import SearchPlan, parse_search, search_record
from surgery.experiments.search.study import JOURNAL, stored_trials
from surgery.files import digest, read_limited, runs_folder, write_problem, write_whole
from surgery.runs import LOG, under_way

ABOUT = "search.json"
_SCHEMA = 1
_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class StoredSearch:
    """A search on this machine.

    folder: its name is the search's key.
    plan: what is searched.
    adapter: digest of the adapter.
    started: when it was begun.
    """

    folder: Path
    plan: SearchPlan
    adapter: str
    started: datetime

    @property
    def under_way(self) -> bool:
        """Whether somebody works on it now, in this process or in another."""
        return under_way(self.folder / LOG)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Its trials so far; raises `DataError` where the study was damaged."""
        return stored_trials(self.folder / JOURNAL, self.folder.name, self.plan.asked)


def search_key(plan: SearchPlan, adapter: str, context: Iterable[str]) -> str:
    """The name of a search's folder.

    plan: what is searched.
    adapter: digest of the adapter.
    context: what else its numbers depend on: the base, the rows as the model reads them, precision and versions.
    """
    return digest([str(_SCHEMA), json.dumps(search_record(plan), sort_keys=True), adapter, *context])[:24]


def keep_about(folder: Path, plan: SearchPlan, adapter: str) -> None:
    """Write what a search is about where that was not done before; raises `DataError` where it cannot be written."""
    if _about(folder) is not None:
        return
    record = {
        "schema": _SCHEMA,
        "adapter": adapter,
        "started": datetime.now(UTC).isoformat(),
        "search": search_record(plan),
    }
    data = json.dumps({**record, "digest": _digest(record)}, indent=1).encode()
    try:
        write_whole(folder / ABOUT, data)
    except OSError as error:
        raise unwritable(folder, error, len(data)) from error


def unwritable(folder: Path, error: OSError, needed: int) -> DataError:
    """What to tell of a search of which `needed` bytes more cannot be written."""
    return DataError(
        f"the search {folder.name!r} cannot be written ({write_problem(error, needed)})",
        "make room or check the folder, then start again: what was measured is kept",
    )


def stored_searches(adapter: str) -> list[StoredSearch]:
    """The searches of this machine on an adapter of that digest, newest first; damaged records are passed over."""
    found = [about for folder in runs_folder().glob("*") if (about := _about(folder)) is not None]
    return sorted((each for each in found if each.adapter == adapter), key=lambda each: each.started, reverse=True)


def delete_search(search: StoredSearch) -> None:
    """Remove a search's folder; raises `DataError` where it is under way or the folder cannot be removed."""
    if search.under_way:
        raise DataError("this search is under way", "stop it first")
    try:
        shutil.rmtree(search.folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise DataError(
            f"the search {search.folder.name!r} cannot be deleted ({error.strerror})", "check who owns the folder"
        ) from error


def _about(folder: Path) -> StoredSearch | None:
    """What a folder says of its search; None for what is no search of this schema, or was changed."""
    try:
        record: dict[str, Any] = json.loads(read_limited(folder / ABOUT, _MOST_BYTES))
        if record.pop("digest") != _digest(record) or record["schema"] != _SCHEMA:
            return None
        started = datetime.fromisoformat(record["started"])
        return StoredSearch(folder, parse_search(record["search"]), str(record["adapter"]), started)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _digest(record: Mapping[str, Any]) -> str:
    return digest([json.dumps(record)])
