"""Text files as they lie on disks: packed or not, in the encoding that their first bytes tell, read within bounds."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from surgery.errors import DataError

LONGEST_LINE = 16 << 20  # characters
# bytes that gzip may unpack to: a small file can stand for any number of them
_MOST_UNPACKED, _ALWAYS_UNPACKED, _MOST_TIMES = 2 << 30, 1 << 20, 100
_GZIP = b"\x1f\x8b"


@contextmanager
def open_text(file: Path) -> Iterator[TextIO]:
    """Open a text file, with line ends as they are: gzip is unpacked, UTF-8, UTF-16 and UTF-32 told apart.

    Raises `DataError`, also while it is read, for what is no such file and for one that unpacks to more than fits.
    """
    try:
        if file.exists() and not file.is_file():
            raise OSError("no regular file")  # a device or a pipe would be read for ever
        with file.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP
            most = min(_MOST_UNPACKED, max(_ALWAYS_UNPACKED, _MOST_TIMES * file.stat().st_size))
            data = io.BufferedReader(_Unpacked(raw, most)) if packed else raw
            # by the mark, or by where the first two characters have their zeros
            encoding = json.detect_encoding(data.peek(4)[:4])
            yield io.TextIOWrapper(data, encoding, newline="")
    except FileNotFoundError:
        raise DataError(f"no file at {str(file)!r}", "check the path of the file") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{file.name!r} could not be unpacked ({error})", "use an intact copy") from error
    except _TooLarge as error:
        raise DataError(
            f"{file.name!r} unpacks to more than {error.most >> 20:,} MiB",
            "unpack it, or use a part of the dataset",
        ) from None
    except (OSError, UnicodeError) as error:
        raise DataError(f"{file.name!r} could not be read as text", "save it as UTF-8") from error


def text_lines(text: TextIO, name: str) -> Iterator[str]:
    """The lines of an open text, one at a time: a file may be larger than memory.

    Raises `DataError` for a line of more than `LONGEST_LINE` characters; `name` is used in messages only.
    """
    while line := text.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise DataError(
                f"{name!r} has a line of more than {LONGEST_LINE:,} characters", "write one record on each line"
            )
        yield line


class _TooLarge(Exception):
    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most


class _Unpacked(io.RawIOBase):
    """The content of a gzip stream, up to a size in bytes."""

    def __init__(self, raw: Any, most: int) -> None:
        self._content = gzip.GzipFile(fileobj=raw)
        self._most = self._left = most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._content.read(len(buffer))
        self._left -= len(data)
        if self._left < 0:
            raise _TooLarge(self._most)
        buffer[: len(data)] = data
        return len(data)
