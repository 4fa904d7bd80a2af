"""The names that the installed lm-eval knows: found by a quick look at its files, or by its own slow index."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from surgery.evaluation.lm_eval.process_state import installed_lm_eval

_LINE = rb"""^["']?%s["']?:[ \t]*["']?([^"'\s#\[{]+)["']?[ \t]*(?:#.*)?\r?$"""
_TASK_LINE, _GROUP_LINE = (re.compile(_LINE % kind, re.MULTILINE) for kind in (b"task", b"group"))
# one tag, or a list of them on this line or on the next ones
_TAG_LINES = re.compile(rb"""^["']?tag["']?:([^\n#]*(?:\n[ \t]*-[^\n#]*)*)""", re.MULTILINE)
_TAG = re.compile(rb"""[^\s"',\[\]]+""")
_ALIKE = 0.7
_HINTS = 3


def tasks_folder() -> Path:
    """Where lm-eval's own definitions lie; raises `DataError` where it is not installed."""
    return Path(installed_lm_eval().__file__).parent / "tasks"


@cache
def task_files() -> Mapping[str, Path]:
    """The definition file of every single task that the installed lm-eval knows, by name (about a second).

    Raises `DataError` when lm-eval is not installed.
    """
    found: dict[str, Path] = {}
    # in lm-eval's own order, where the first of two files wins
    for file in sorted(tasks_folder().rglob("*.yaml"), key=Path.as_posix):
        match = _TASK_LINE.search(file.read_bytes())
        if match is not None:
            found.setdefault(match[1].decode(), file)
    return found


@cache
def collection_names() -> frozenset[str]:
    """The names of lm-eval's groups and tags (about a second)."""
    found: set[bytes] = set()
    # what a definition includes has tags too, and no suffix
    for file in tasks_folder().rglob("*"):
        if file.suffix in ("", ".yaml") and file.is_file():
            text = file.read_bytes()
            found.update(_GROUP_LINE.findall(text))
            found.update(tag for lines in _TAG_LINES.findall(text) for tag in _TAG.findall(lines) if tag != b"-")
    return frozenset(name.decode() for name in found)


@cache
def entries() -> Mapping[str, Any]:
    """Every task, group and tag that the installed lm-eval knows, as its own index has them (many seconds)."""
    from lm_eval.tasks._index import TaskIndex

    return TaskIndex.build([tasks_folder()])


def close_names(name: str, names: Iterable[str]) -> list[str]:
    """The few names that were probably meant: other case or marks, a name that it begins, or a slip of the pen."""
    known, folded = list(names), _folded(name)
    same = [each for each in known if _folded(each) == folded]
    longer = sorted((each for each in known if folded and _folded(each).startswith(folded)), key=len)
    alike = get_close_matches(name, known, n=_HINTS, cutoff=_ALIKE)
    return list(dict.fromkeys([*same, *longer, *alike]))[:_HINTS]


def _folded(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()
