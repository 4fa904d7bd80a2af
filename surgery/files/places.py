"""Where the workbench keeps what it makes: $SURGERY_HOME, else the user's cache folder, and every place below it.

Only `home` makes its folder; the places below it are made by what writes there.
"""

import os
from pathlib import Path

from platformdirs import user_cache_path

from surgery.errors import SurgeryError

RUNS = "runs"


def home() -> Path:
    """The workbench's own folder, created when missing; raises `SurgeryError` where that cannot be done."""
    configured = os.environ.get("SURGERY_HOME")
    folder = Path(configured).expanduser() if configured else user_cache_path("spectral-surgery")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SurgeryError(
            f"the workbench's folder {str(folder)!r} cannot be made ({error.strerror})",
            "set SURGERY_HOME to a folder that can be written",
        ) from error
    return folder


def runs_folder() -> Path:
    """Runs: a folder for each evaluation."""
    return home() / RUNS


def groups_folder() -> Path:
    """Groups of runs that were asked together, a file each."""
    return home() / "groups"


def sensitivities_folder() -> Path:
    """Measured sensitivities, finished and broken off."""
    return home() / "sensitivities"


def looks_folder() -> Path:
    """What was found inside components, a file for each pass over rows."""
    return home() / "looks"


def matrices_folder() -> Path:
    """Adapters of a set compared with each other, a file for each comparison."""
    return home() / "matrices"


def row_changes_folder() -> Path:
    """What edits changed on single calibration rows, a file for each edit and measurement."""
    return home() / "row-changes"


def films_folder() -> Path:
    """Films of trainings, a file each."""
    return home() / "films"


def timings_file() -> Path:
    """How long calibrations and proofs took, from which the next ones are estimated."""
    return home() / "pace.json"


def sweeps_folder() -> Path:
    """Which run answers for a group of a sweep, a file each."""
    return home() / "sweeps"


def bases_folder() -> Path:
    """Base models converted from GGUF files, a folder each."""
    return home() / "bases"


def headrooms_folder() -> Path:
    """What training σ alone found, a file each."""
    return home() / "headrooms"


def offload_folder() -> Path:
    """Weights of a base model that fit neither the cards nor the memory."""
    return home() / "offload"


def uploads_folder() -> Path:
    """Adapters and rows that were uploaded to the app, under their digests."""
    return home() / "uploads"


def workspaces_folder() -> Path:
    """Workspaces of the app, a file each."""
    return home() / "workspaces"


def recipes_folder() -> Path:
    """Recipes that the app wrote for its command lines, under their digests."""
    return home() / "recipes"


def exports_folder() -> Path:
    """Where the app proposes to write edited adapters."""
    return home() / "exports"


def proposed_export(stem: str) -> Path:
    """A folder below the exports that is not there yet: of this name, or with the first number that is free."""
    folder, number = exports_folder() / stem, 2
    while folder.exists():
        folder = exports_folder() / f"{stem}-{number}"
        number += 1
    return folder
