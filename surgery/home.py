"""Where caches and runs live: $SURGERY_HOME, else the user's cache folder."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from platformdirs import user_cache_path


def home() -> Path:
    """The workbench's own folder, created when missing."""
    configured = os.environ.get("SURGERY_HOME")
    folder = Path(configured).expanduser() if configured else user_cache_path("spectral-surgery")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(parts: Iterable[bytes | str]) -> str:
    """SHA-256 of length-prefixed parts, so that no two different lists of parts collide."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()
