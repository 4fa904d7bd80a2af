"""The items of a JSON array, one at a time: such a file may be larger than what fits once it is parsed."""

import re
from collections.abc import Iterator
from typing import TextIO

from surgery.errors import DataError
from surgery.files import LONGEST_LINE

_CHUNK = 1 << 20  # characters
_DEEPEST = 10_000  # levels: json itself reads fewer
_OUTSIDE = re.compile(r'["\[\]{},]')
_INSIDE = re.compile(r'"|\\.', re.DOTALL)  # of a text in quotes: its end, or a character that is escaped


def array_items(text: TextIO, name: str) -> Iterator[str]:
    """The text of every item up to the closing bracket, and of what follows that, where anything does.

    text: from behind the bracket that opens the array.
    name: of the file, for messages.

    An array without its end gives what there is of the last item, be it nothing. Raises `DataError` for an item of more
    than `LONGEST_LINE` characters.
    """
    # `begin` is where the present item does, `at` how far it has been looked through
    held, begin, at, depth, quoted = "", 0, 0, 1, False
    while chunk := text.read(_CHUNK):
        if len(held) - begin > LONGEST_LINE:
            raise DataError(f"{name!r} has an item of more than {LONGEST_LINE:,} characters", "leave it out")
        held, at, begin = held[begin:] + chunk, at - begin, 0
        while match := (_INSIDE if quoted else _OUTSIDE).search(held, at):
            mark, at = match[0], match.end()
            if mark == '"':
                quoted = not quoted
            elif mark in ("[", "{"):
                depth += 1
                if depth > _DEEPEST:
                    raise DataError(f"{name!r} has an item of more than {_DEEPEST:,} levels", "leave it out")
            elif mark in ("]", "}"):
                depth -= 1
            if quoted or depth > 1 or (depth == 1 and mark != ","):
                continue
            item, begin = held[begin : at - 1], at
            if depth or item.strip():
                yield item
            if not depth:
                rest = held[at:] + text.read(_CHUNK)
                if rest.strip():
                    yield rest
                return
        # an escape may be cut in two
        at = max(at, len(held) - (quoted and held.endswith("\\")))
    yield held[begin:]
