"""What loaders of bases share: silence, and the sample of a file that identifies it."""

import contextlib
from collections.abc import Iterator
from functools import partialmethod
from pathlib import Path
from typing import Any


def file_sample(file: Path) -> list[bytes | str]:
    """Name, size and sixteen mebibytes spread evenly over a file, the first and the last among them."""
    size, blocks = file.stat().st_size, 16
    parts: list[bytes | str] = [file.name, str(size)]
    with file.open("rb") as handle:
        for block in range(blocks):
            handle.seek(max(0, size - (1 << 20)) * block // (blocks - 1))
            parts.append(handle.read(1 << 20))
    return parts


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep progress bars of the loaders off standard error, where our own progress goes."""
    from tqdm.std import tqdm

    bar: Any = tqdm
    original = bar.__init__
    bar.__init__ = partialmethod(original, disable=True)
    try:
        yield
    finally:
        bar.__init__ = original
