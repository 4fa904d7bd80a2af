"""Reading that ends: regular files up to a size."""

import errno
from pathlib import Path


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
