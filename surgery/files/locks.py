"""Advisory locks of open files and folders, which the system lets go of when a process ends, however it ends.

`flock` keeps others out and works on folders too, but it cannot be asked about without being taken. So whoever
takes it marks the file with a shared lock of its open file description as well, and a probe asks the system
for what would be in the way of an exclusive one: it takes nothing, so it is in nobody's way.
"""

import struct
from contextlib import suppress
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl: Any = None  # type: ignore[no-redef]
_WHOLE_FILE = "hhqqi4x"  # struct flock: type, from where, start, length (0: all), process


def try_lock(file: IO[bytes] | int) -> bool:
    """Take the lock of an open file or of a folder's descriptor until it is closed; False if another holds it.

    Where the system has no such locks nobody is kept out.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    if hasattr(fcntl, "F_OFD_SETLK"):
        with suppress(OSError):
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack(_WHOLE_FILE, fcntl.F_RDLCK, 0, 0, 0, 0))
    return True


def is_locked(file: IO[bytes] | int) -> bool:
    """Whether another open file, of this process or of another, holds the lock that `try_lock` takes.

    Takes no lock on Linux; where that cannot be asked, a shared one for as long as the question lasts.
    """
    if fcntl is None:
        return False
    try:
        if hasattr(fcntl, "F_OFD_GETLK"):
            asked = struct.pack(_WHOLE_FILE, fcntl.F_WRLCK, 0, 0, 0, 0)
            kind = struct.unpack(_WHOLE_FILE, fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))[0]
            return bool(kind != fcntl.F_UNLCK)
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(file, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
