"""Where the workbench keeps what it makes: $SURGERY_HOME, else the user's cache folder."""

import os
from pathlib import Path

from platformdirs import user_cache_path

from surgery.errors import SurgeryError


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
