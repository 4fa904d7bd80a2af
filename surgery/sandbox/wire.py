"""Length-prefixed messages between the processes of the sandbox, and values of builtin types packed into them."""

import json
import os
import struct
import sys
from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from itertools import islice
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


_JSON_INT = 2**63
_LONGEST_ITERATOR = 100_000


def pack(value: Any) -> Any:
    """`value` in JSON's terms; subclasses of builtin types become the builtin. `TypeError` for others."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) < _JSON_INT else ["int", hex(value)]
    if isinstance(value, float):
        return float(value)
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [pack(item) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[pack(key), pack(item)] for key, item in value.items()]]
    if isinstance(value, complex):
        return ["complex", [value.real, value.imag]]
    if isinstance(value, (bytes, bytearray)):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, range):
        return ["range", [pack(bound) for bound in (value.start, value.stop, value.step)]]
    if isinstance(value, (Iterator, KeysView, ValuesView, ItemsView)):
        return ["iterator", _items(value)]
    return _pack_number(value)


def _items(value: Any) -> list[Any]:
    items = list(islice(value, _LONGEST_ITERATOR + 1))
    if len(items) > _LONGEST_ITERATOR:
        raise TypeError(f"an iterator of more than {_LONGEST_ITERATOR} items cannot be carried")
    return [pack(item) for item in items]


def _pack_number(value: Any) -> Any:
    """Exact numbers of the standard library; who holds one has imported its module already."""
    decimal, fractions = sys.modules.get("decimal"), sys.modules.get("fractions")
    if decimal is not None and isinstance(value, decimal.Decimal):
        return ["decimal", str(value)]
    if fractions is not None and isinstance(value, fractions.Fraction):
        return ["fraction", [pack(value.numerator), pack(value.denominator)]]
    raise TypeError(f"a value of type {type(value).__name__} cannot be carried")


def unpack(data: Any) -> Any:
    """The value again. `ValueError` for what `pack` cannot have written; safe on hostile data."""
    if data is None or type(data) in (bool, int, float, str):
        return data
    if type(data) is not list or len(data) != 2 or type(data[0]) is not str:
        raise ValueError("not a packed value")
    kind, body = data
    if kind in ("int", "bytes", "decimal"):
        return _from_text(kind, _checked(body, str))
    items = _checked(body, list)
    if kind == "dict":
        return {unpack(key): unpack(item) for key, item in items}
    values = [unpack(item) for item in items]
    if kind in ("list", "tuple", "set", "frozenset"):
        return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](values)
    if kind == "iterator":
        return iter(values)
    return _from_numbers(kind, values)


def _checked(body: Any, kind: type) -> Any:
    if type(body) is not kind:
        raise ValueError("not a packed value")
    return body


def _from_text(kind: str, text: str) -> Any:
    if kind == "int":
        return int(text, 16)
    if kind == "bytes":
        return bytes.fromhex(text)
    from decimal import Decimal, InvalidOperation

    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise ValueError("not a decimal number") from error


def _from_numbers(kind: str, numbers: list[Any]) -> Any:
    if kind == "range" and len(numbers) == 3:
        return range(*(_checked(number, int) for number in numbers))
    if kind == "complex" and len(numbers) == 2:
        return complex(*(_checked(number, float) for number in numbers))
    if kind == "fraction" and len(numbers) == 2:
        from fractions import Fraction

        return Fraction(*(_checked(number, int) for number in numbers))
    raise ValueError("not a packed value")
