"""The folder that an export is made in, beside the place it is put into whole, and what is left of killed ones."""

import contextlib
import glob
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from surgery.adapter import CONFIG_FILE, TOKENIZER_FILES, WEIGHTS_FILE
from surgery.errors import ExportError
from surgery.export.record import RECORD_FILE
from surgery.files import try_lock, user_path

RECIPE_FILE = "recipe.yaml"
CARD_FILE = "README.md"


def new_folder(out: Path | str) -> Path:
    """The path of a folder to be written; raises `ExportError` when something is there already."""
    target = user_path(out, ExportError)
    try:
        taken = target.exists() and (not target.is_dir() or any(target.iterdir()))
    except OSError as error:
        raise ExportError(f"{str(out)!r} cannot be written ({error.strerror})", "choose another folder") from error
    if taken:
        raise ExportError(f"{str(out)!r} exists already", "choose a new folder; nothing was overwritten")
    return target


def remove_abandoned(target: Path) -> None:
    """Remove what exports to the same place left when they were killed: folders of ours that nobody holds."""
    for folder in target.parent.glob(f".{glob.escape(target.name)}-????????"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or any(not _is_ours_to_remove(file) for file in folder.iterdir()):
                continue
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                if try_lock(descriptor):
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)


def _is_ours_to_remove(file: Path) -> bool:
    """Whether an export writes files of this name; safetensors' own begin with .tmp."""
    ours = (WEIGHTS_FILE, CONFIG_FILE, RECIPE_FILE, RECORD_FILE, CARD_FILE, *TOKENIZER_FILES)
    return file.name in ours or file.name.startswith(".tmp")


def clean_up(target: Path, staging: Path | None, lock: int | None, made: Sequence[Path]) -> None:
    """Let go of the lock, and leave nothing behind where the folder did not come to stand in its place."""
    if lock is not None:
        os.close(lock)
    if staging is not None and staging.exists():
        shutil.rmtree(staging, ignore_errors=True)
    if not target.exists():
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()


def keep(file: Path) -> None:
    file.chmod(0o644)
    flush(file)


def flush(file: Path) -> None:
    """Put a file, or the names in a folder, on the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
