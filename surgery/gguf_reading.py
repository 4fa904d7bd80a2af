"""GGUF files, read in the time that their bytes take.

The reader of the `gguf` package slices a memory map once for every token of a vocabulary, and numpy makes an object
of its own of each slice. transformers opens a file three times to load it, for the configuration, the weights and the
tokenizer, and builds the table of weight names once for every submodule. For a model of 135M parameters that is most
of the time.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import gguf
import numpy as np
from numpy import ndarray

_lock = threading.Lock()


class PlainReader(gguf.GGUFReader):
    """A reader whose slices of the file are plain arrays. Raises as its parent does, for a file that is no GGUF."""

    @property  # type: ignore[override]  # of the map nothing is used but its slices
    def data(self) -> ndarray:
        return self._data

    @data.setter
    def data(self, mapped: ndarray) -> None:
        self._data = np.asarray(mapped)


@contextmanager
def read_once() -> Iterator[None]:
    """Within it, transformers opens a GGUF file once and builds its table of names once.

    It takes both from the `gguf` package as it needs them. One thread at a time.
    """
    package: Any = gguf
    with _lock:
        theirs = package.GGUFReader, package.get_tensor_name_map
        package.GGUFReader, package.get_tensor_name_map = cache(PlainReader), cache(theirs[1])
        try:
            yield
        finally:
            package.GGUFReader, package.get_tensor_name_map = theirs
