"""Where caches and runs live, and which paths a person may name.

Caches and runs: $SURGERY_HOME, else the user's cache folder. Paths: all that the account may reach,
unless $SURGERY_FOLDERS lists folders; then those and the workbench's own, for reading and for writing.
"""

import errno
import hashlib
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from platformdirs import user_cache_path

from surgery.errors import SurgeryError

FOLDERS = "SURGERY_FOLDERS"


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


def named_folders() -> tuple[Path, ...] | None:
    """The folders that $SURGERY_FOLDERS confines named paths to, the workbench's own first; None without it."""
    listed = os.environ.get(FOLDERS)
    if listed is None:
        return None
    return tuple(folder.resolve() for folder in (home(), *map(Path, filter(None, listed.split(os.pathsep)))))


def user_path(text: str | Path, refusal: type[SurgeryError] = SurgeryError) -> Path:
    """A path that a person named, with `~` expanded.

    Raises `refusal` for one that cannot exist, and for one outside the folders that may be named.
    """
    path = Path(text)
    allowed = named_folders()
    try:
        path = path.expanduser()
        if allowed is not None:
            # links are followed first: what counts is where the path ends
            real = path.resolve()
            if not any(real.is_relative_to(folder) for folder in allowed):
                raise refusal(
                    f"{str(text)[:80]!r} is outside the folders that this server may use",
                    "name a path inside them, upload the files, or start the server with --folder",
                )
        path.lstat()  # a name that is too long or holds a null byte fails here
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except SurgeryError:
        raise
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise refusal(f"{str(text)[:80]!r} is no usable path ({reason})", "check the path") from error
    return path


def read_limited(file: Path, most: int) -> bytes:
    """The bytes of a regular file of at most `most` bytes; `OSError` for anything else.

    A device or a pipe would be read for ever.
    """
    if file.exists() and not file.is_file():
        raise OSError(errno.EINVAL, "no regular file")
    with file.open("rb") as handle:
        data = handle.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"larger than {most >> 10:,} KiB")
    return data


def file_stamp(file: Path) -> tuple[int, int, int]:
    """Its inode, size in bytes and time of change in ns: equal as long as nobody writes the file. Raises `OSError`."""
    status = file.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


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


def digest(parts: Iterable[bytes | str]) -> str:
    """SHA-256 of length-prefixed parts, so that no two different lists of parts collide."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little"))
        sha.update(data)
    return sha.hexdigest()
