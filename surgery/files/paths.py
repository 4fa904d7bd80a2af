"""Which paths a person may name.

All that the account may reach, unless $SURGERY_FOLDERS lists folders; then those and the workbench's own, for
reading and for writing.
"""

import os
from pathlib import Path

from surgery.errors import DataError, SurgeryError
from surgery.files.atomic import write_problem, write_whole
from surgery.files.places import home

FOLDERS = "SURGERY_FOLDERS"


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


def write_kept(file: Path, data: bytes, what: str, remedy: str) -> None:
    """Write a file that the workbench keeps for itself, whole or not at all; raises `DataError`, which names `what`."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, data)
    except OSError as error:
        raise DataError(f"{what} cannot be kept ({write_problem(error, len(data))})", remedy) from error


def write_named(file: Path | str, data: bytes) -> Path:
    """Write a file that a person named, whole or not at all; raises `DataError` where that cannot be done."""
    target = user_path(file, DataError)
    try:
        write_whole(target, data)
    except OSError as error:
        raise DataError(
            f"{str(file)!r} cannot be written ({write_problem(error, len(data))})", "choose another file"
        ) from error
    return target
