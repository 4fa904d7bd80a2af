"""Files written whole or not at all."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4


def write_whole(file: Path, data: bytes) -> None:
    """Write beside its place and rename: the file holds all of it, or what it held before. Raises `OSError`."""
    staging = file.with_name(f"{file.name}.{uuid4().hex[:8]}.tmp")
    try:
        staging.write_bytes(data)
        staging.replace(file)
    finally:
        with suppress(OSError):
            staging.unlink(missing_ok=True)


def write_problem(error: Exception, needed: int) -> str:
    """Why `needed` bytes could not be written; where the disk is full, with the room that they take.

    Not every error of a library that writes has the system's number, so its words are looked at.
    """
    reason = getattr(error, "strerror", None) or str(error)
    if any(os.strerror(number) in reason for number in (errno.ENOSPC, errno.EDQUOT)):
        return f"{reason}: {max(1, -(-needed // 1024)):,} KiB are needed"
    return reason
