"""The adapters that lie below a folder: where a training keeps its checkpoints, or a download its adapter."""

import os
import re
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path

from surgery.adapter.config_file import CONFIG_FILE
from surgery.errors import ChoiceError

_MOST_ENTRIES = 20_000
_MOST_FOUND = 200
_DEEPEST = 6
_NAMED = 5  # in a message; a choice has them all
_NUMBER = re.compile(r"(\d+)")


def adapters_below(folder: Path) -> tuple[str, ...]:
    """Folders below `folder` with an adapter_config.json, as relative paths with `/`, checkpoints in their order.

    Six levels, twenty thousand entries and two hundred adapters are looked through; links to folders and hidden
    folders are not entered.
    """
    found: list[str] = []
    looked = 0
    waiting = deque([("", 0)])
    while waiting and looked < _MOST_ENTRIES and len(found) < _MOST_FOUND:
        path, depth = waiting.popleft()
        try:
            with os.scandir(folder / path) as entries:
                for entry in entries:
                    looked += 1
                    if looked >= _MOST_ENTRIES:
                        break
                    if entry.is_dir(follow_symlinks=False):
                        if depth < _DEEPEST and not entry.name.startswith("."):
                            waiting.append((f"{path}{entry.name}/", depth + 1))
                    elif entry.name == CONFIG_FILE and path:
                        found.append(path.removesuffix("/"))
        except OSError:
            continue  # a folder that may not be read holds nothing that could be opened
    return in_order(found)


def choice_below(source: str, problem: str, names: Sequence[str]) -> ChoiceError:
    """The refusal of a folder that holds no adapter itself and has some below it, which are named.

    source: the folder, in a person's words.
    problem: what is wrong, to which their names are added.
    names: as `adapters_below` gives them.
    """
    choices = tuple(f"{source.rstrip('/')}/{name}" for name in names)
    remedy = f"name it: {choices[0]}" if len(names) == 1 else f"name one of them, such as {choices[-1]}"
    return ChoiceError(f"{problem}: {listed(names)}", remedy, choices)


def listed(names: Sequence[str]) -> str:
    """The first few of many names."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def in_order(paths: Iterable[str]) -> tuple[str, ...]:
    """Paths by name, numbers in them by value: checkpoint-50 before checkpoint-100."""
    return tuple(sorted(paths, key=_natural))


def _natural(path: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBER.split(path)]
