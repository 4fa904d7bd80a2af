"""Locks that the system lets go of when a process ends, however it ends."""

from typing import IO


def is_ours(file: IO[bytes] | int) -> bool:
    """Take the lock of an open file or of a folder's descriptor, and say whether it is ours from now on.

    Where the system has no such locks, it is.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
