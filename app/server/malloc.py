"""What a long-lived server asks of glibc's allocator. Elsewhere nothing is changed.

glibc gives threads heaps of their own, and what is free in one is of no use to the others; what is free between
two blocks goes back to the system only when it is told. With a thread for every session the server would grow
for hours.
"""

import gc
from contextlib import suppress
from ctypes import CDLL

_ARENA_MAX = -8  # of glibc's malloc.h


def keep_to_few_arenas() -> None:
    """To be called before there are threads."""
    with suppress(OSError, AttributeError):
        CDLL(None).mallopt(_ARENA_MAX, 2)


def give_back() -> None:
    """Free what only refers to itself, such as a model that a job is done with, and hand empty pages back to the
    system. That takes some tens of milliseconds, so it is for the end of long work.
    """
    gc.collect()
    with suppress(OSError, AttributeError):
        CDLL(None).malloc_trim(0)
