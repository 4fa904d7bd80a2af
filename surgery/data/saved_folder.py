"""Folders that `save_to_disk` of `datasets` wrote: a dataset, or one for each split."""

import json
from pathlib import Path
from typing import Any

from surgery.errors import DataError
from surgery.files import read_limited

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_MOST_BYTES = 8 << 20
_AGAIN = "save it again with a present version of datasets"


def is_saved(folder: Path) -> bool:
    """Whether a folder was written by `save_to_disk`."""
    return (folder / _STATE).is_file() or (folder / _SPLITS).is_file()


def saved_files(folder: Path, split: str = "") -> list[Path]:
    """The arrow files of a split, in order; raises `DataError` where the folder has no such split.

    `split` may be left out where there is one, or one called `train`.
    """
    if (folder / _SPLITS).is_file():
        folder = folder / _split_of(folder, split)
        split = ""
    state = _read(folder, _STATE)
    own = state.get("_split")
    if split not in ("", own) and (own or split != "train"):
        raise DataError(
            f"{folder.name!r} holds no split {split!r}",
            f"leave it out, or write {own!r}" if own else "leave it out",
        )
    if state.get("_indices_data_files") or state.get("_indices_files"):
        raise DataError(f"{folder.name!r} keeps its order apart from its rows", _AGAIN)
    files = state.get("_data_files")
    listed = files if isinstance(files, list) else []
    names = [str(each.get("filename")) for each in listed if isinstance(each, dict)]
    # a name out of a file is one of what lies here, and never a path
    here = {file.name: file for file in folder.iterdir() if file.suffix == ".arrow"}
    if not names or not here.keys() >= set(names):
        raise DataError(f"{folder.name!r} lacks files of its own list in {_STATE}", _AGAIN)
    return [here[name] for name in names]


def _split_of(folder: Path, wanted: str) -> str:
    splits = _read(folder, _SPLITS).get("splits")
    here = {each.name for each in folder.iterdir() if (each / _STATE).is_file()}
    names = [name for name in splits if isinstance(name, str) and name in here] if isinstance(splits, list) else []
    chosen = wanted or ("train" if "train" in names else names[0] if len(names) == 1 else "")
    if chosen not in names:
        shown = ", ".join(repr(name) for name in names[:20]) or "none"
        raise DataError(
            f"{folder.name!r} has no split {chosen!r}" if chosen else f"{folder.name!r} has several splits",
            f"write FOLDER:SPLIT; there are {shown}",
        )
    return chosen


def _read(folder: Path, name: str) -> dict[str, Any]:
    try:
        record = json.loads(read_limited(folder / name, _MOST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{name} in {folder.name!r} cannot be read", _AGAIN) from error
    if not isinstance(record, dict):
        raise DataError(f"{name} in {folder.name!r} is no record", _AGAIN)
    return record
