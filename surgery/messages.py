"""JSON values over a pipe, each with its length before it, for the two sides of the sandbox."""

import json
import os
import struct
from typing import Any

_LONGEST = 4 << 20
_LENGTH = struct.Struct("<I")


def framed(content: Any) -> bytes:
    """One message. `ValueError` above 4 MiB."""
    body = json.dumps(content).encode()
    if len(body) > _LONGEST:
        raise ValueError(f"a message of {len(body)} bytes is too long")
    return _LENGTH.pack(len(body)) + body


def write_message(descriptor: int, content: Any) -> None:
    """Send one message, waiting for the reader where the pipe is full."""
    rest = memoryview(framed(content))
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_message(descriptor: int) -> Any:
    """Wait for one message. `EOFError` at the end of the pipe, `ValueError` for what is none."""
    (length,) = _LENGTH.unpack(_read_exactly(descriptor, _LENGTH.size))
    if length > _LONGEST:
        raise ValueError(f"a message of {length} bytes is too long")
    return json.loads(_read_exactly(descriptor, length))


def _read_exactly(descriptor: int, length: int) -> bytes:
    parts = []
    while length:
        part = os.read(descriptor, min(length, 1 << 16))
        if not part:
            raise EOFError("the other side closed the pipe")
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def whole_messages(received: bytes) -> list[Any]:
    """The messages in what was received; one that is cut short is left out."""
    found = []
    while len(received) >= _LENGTH.size:
        end = _LENGTH.size + _LENGTH.unpack_from(received)[0]
        if len(received) < end:
            break
        found.append(json.loads(received[_LENGTH.size : end]))
        received = received[end:]
    return found
