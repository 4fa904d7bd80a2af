"""Where caches and runs live: $SURGERY_HOME, else the user's cache folder."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from platformdirs import user_cache_path

from surgery.errors import SurgeryError


def home() -> Path:
    """The workbench's own folder, created when missing."""
    configured = os.environ.get("SURGERY_HOME")
    folder = Path(configured).expanduser() if configured else user_cache_path("spectral-surgery")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def user_path(text: str | Path, refusal: type[SurgeryError] = SurgeryError) -> Path:
    """A path that a person named, with `~` expanded; raises `refusal` for one that cannot exist."""
    path = Path(text)
    try:
        path = path.expanduser()
        path.lstat()  # a name that is too long or holds a null byte fails here
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise refusal(f"{str(text)[:80]!r} is no usable path ({reason})", "check the path") from error
    return path


def digest(parts: Iterable[bytes | str]) -> str:
    """SHA-256 of length-prefixed parts, so that no two different lists of parts collide."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()
