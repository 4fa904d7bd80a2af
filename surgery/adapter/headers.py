"""What a file says of itself at its beginning, read within bounds: its kind and the names of its tensors.

Nothing is unpickled and no weights are read: this tells what a file is that is no adapter of PEFT's.
"""

import io
import json
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

SAFETENSORS, PICKLE, GGUF, ZIP = "safetensors", "pickle", "GGUF", "zip"
POINTER, PAGE, OTHER = "pointer", "page", "other"

_MOST_HEADER = 16 << 20  # of safetensors
_MOST_PICKLE = 1 << 20
_MOST_MEMBERS = 1 << 20  # bytes that list what a zip holds
_PICKLES = 5  # before 1.6 torch wrote several, one after the other
_START = 512
_POINTER = b"version https://git-lfs"
_TENSOR = re.compile(r"[\w.:@+=,()\[\] -]{1,500}")
_TEXT = 8  # the number that GGUF gives a text
_MOST_KEYS, _LONGEST_TEXT = 16, 4096


@dataclass(frozen=True)
class Header:
    """The kind of a file, its tensors' shapes by name where it tells them, and what a GGUF file says of itself.

    Of a pickle the names are told without shapes, which stand as None.
    """

    kind: str
    tensors: Mapping[str, tuple[int, ...] | None] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)


def read_header(file: Path) -> Header:
    """What a regular file says of itself; `OTHER` for what is damaged or not known. Raises `OSError`."""
    with file.open("rb") as handle:
        return header_of(handle)


def header_of(handle: IO[bytes]) -> Header:
    """As `read_header`, of an open file that can be wound back."""
    start = handle.read(_START)
    handle.seek(0)
    if kind := _stand_in(start):
        return Header(kind)
    if start.startswith(b"GGUF"):
        return Header(GGUF, about=dict(_gguf_texts(handle)))
    if start.startswith(b"PK\x03\x04"):
        return _zipped(handle)
    if start.startswith(b"\x80"):
        return Header(PICKLE, _pickled_names(handle.read(_MOST_PICKLE)))
    return _safetensors(handle)


def stands_for(file: Path) -> str:
    """What stands in the place of a regular file that was not fetched: `POINTER`, `PAGE`, or nothing as a rule."""
    if not file.is_file():
        return ""
    with file.open("rb") as handle:
        return _stand_in(handle.read(_START))


def _stand_in(start: bytes) -> str:
    if start.startswith(_POINTER):
        return POINTER
    return PAGE if start.lstrip().lower().startswith((b"<!doctype", b"<html")) else ""


def _safetensors(handle: IO[bytes]) -> Header:
    length = int.from_bytes(handle.read(8), "little")
    if not 2 <= length <= _MOST_HEADER:
        return Header(OTHER)
    text = handle.read(length)
    if len(text) < length or not text.startswith(b"{"):
        return Header(OTHER)
    try:
        told = json.loads(text)
        tensors = {name: tuple(map(int, each["shape"])) for name, each in told.items() if name != "__metadata__"}
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return Header(OTHER)
    return Header(SAFETENSORS, {name: shape for name, shape in tensors.items() if _TENSOR.fullmatch(name)})


def _zipped(handle: IO[bytes]) -> Header:
    """A pickle of torch's, which has been a zip since 1.6, or any other archive."""
    try:
        size = handle.seek(0, io.SEEK_END)
        handle.seek(max(0, size - 22))
        # zipfile reads the list of entries whole
        if int.from_bytes(handle.read(22)[12:16], "little") > _MOST_MEMBERS:
            return Header(ZIP)
        with zipfile.ZipFile(handle) as archive:
            for member in archive.infolist():
                if member.filename.rpartition("/")[2] == "data.pkl":
                    with archive.open(member) as packed:
                        return Header(PICKLE, _pickled_names(packed.read(_MOST_PICKLE)))
    except (OSError, ValueError, LookupError, NotImplementedError, RuntimeError, EOFError, zipfile.BadZipFile):
        return Header(OTHER)
    return Header(ZIP)


def _pickled_names(data: bytes) -> dict[str, None]:
    """Texts in a pickle that can be names of tensors: nothing is built from it."""
    found: dict[str, None] = {}
    stream = io.BytesIO(data)
    try:
        for _ in range(_PICKLES):
            for opcode, argument, _ in pickletools.genops(stream):
                if "UNICODE" in opcode.name and "." in str(argument) and _TENSOR.fullmatch(str(argument)):
                    found[str(argument)] = None
    except (ValueError, LookupError, TypeError, OverflowError):
        pass  # cut at the limit, or at the end of the last one
    return found


def _gguf_texts(handle: IO[bytes]) -> Iterator[tuple[str, str]]:
    """The texts at the head of a GGUF file: its type and architecture stand first."""

    def number(size: int) -> int:
        data = handle.read(size)
        return int.from_bytes(data, "little") if len(data) == size else _LONGEST_TEXT + 1

    handle.seek(16)  # past magic, version and the number of tensors
    for _ in range(min(number(8), _MOST_KEYS)):
        length = number(8)
        if length > _LONGEST_TEXT:
            return
        key = handle.read(length).decode(errors="replace")
        if number(4) != _TEXT or (length := number(8)) > _LONGEST_TEXT:
            return
        yield key, handle.read(length).decode(errors="replace")
