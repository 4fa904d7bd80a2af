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
    """Keep progress bars and reports of the loaders off standard error, where our own progress goes.

    What a report says is lacking is either brought by the adapter or refused by what loads.
    """
    from tqdm.std import tqdm
    from transformers.utils import logging

    bar: Any = tqdm
    original = bar.__init__
    bar.__init__ = partialmethod(original, disable=True)
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        bar.__init__ = original
