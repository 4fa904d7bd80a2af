"""Identities of contents and of files on disk."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def file_stamp(file: Path) -> tuple[int, int, int]:
    """Its inode, size in bytes and time of change in ns: equal as long as nobody writes the file. Raises `OSError`."""
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def digest(parts: Iterable[bytes | str]) -> str:
    """SHA-256 of length-prefixed parts, so that no two different lists of parts collide."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()
