"""At which step of which training an adapter was saved: by the names that trainers give their folders."""

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from surgery.files import read_limited

_STEP = re.compile(r"(?:checkpoint|global_step|step)[-_=]?(\d{1,12})", re.ASCII)
_STATE = "trainer_state.json"
_MOST_STATE = 64 << 20  # it holds a record for every step that was logged
_MOST_STEP = 10**12


def steps_of(folders: Mapping[str, Path]) -> dict[str, tuple[str, int]]:
    """(training, step) of the members that tell a step, by name.

    folders: the members' folders, by their paths below the set's root.

    A step is the number of a folder called as trainers call a checkpoint (`checkpoint-500`, `global_step_500`,
    `step_500`), the adapter's own or one above it, and where there is none `global_step` in the `trainer_state.json`
    beside the adapter. A training is a path with that folder's name replaced by `*`: checkpoints beside each other,
    and what the trainer left in the folder above them, are of one training.
    """
    found = {name: told for name in folders if (told := _step_in_path(name)) is not None}
    trainings = {training for training, _ in found.values()}
    for name, folder in folders.items():
        if name in found or (step := _step_in_state(folder / _STATE)) is None:
            continue
        path = PurePosixPath(name)
        inside, beside = ((place / "*").as_posix() for place in (path, path.parent))
        found[name] = (inside if inside in trainings else beside), step
    return found


def _step_in_path(name: str) -> tuple[str, int] | None:
    parts = PurePosixPath(name).parts
    for at in reversed(range(len(parts))):
        if match := _STEP.fullmatch(parts[at]):
            return PurePosixPath(*parts[:at], "*", *parts[at + 1 :]).as_posix(), int(match[1])
    return None


def _step_in_state(file: Path) -> int | None:
    """`global_step` of a trainer's state; None where there is no such file, or nothing in it that could be a step."""
    try:
        state = json.loads(read_limited(file, _MOST_STATE))
    except (OSError, ValueError, RecursionError):
        return None
    step = state.get("global_step") if isinstance(state, dict) else None
    return step if type(step) is int and 0 <= step <= _MOST_STEP else None
