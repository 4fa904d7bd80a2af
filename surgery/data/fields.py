"""Where a record has a text: the name of a field, a way to one inside others, or a template around several."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from surgery.data.rows import NO_FIELD, UNREADABLE, UnusableRow
from surgery.errors import DataError

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_MISSING = object()
_REMEDY = "give every row a non-empty prompt and answer"


def fields_in(text: str) -> list[str]:
    """The fields that a name or template names, in order; raises `DataError` for one that cannot be read."""
    if "{" not in text and "}" not in text:
        if not text.strip():
            raise DataError("a field without a name was asked for", "name the fields of prompt and answer")
        return [text]
    names = []
    for match in _BRACES.finditer(text):
        if match[0] in "{}":
            raise DataError(
                f"the template {text[:60]!r} has a single {match[0]!r}", "write {name} for a field, {{ for a brace"
            )
        if match[1] is not None:
            names.append(match[1])
    if not names or not all(name.strip() for name in names):
        raise DataError(f"the template {text[:60]!r} names no field", "write a field's name in braces, {name}")
    return names


def text_of(wanted: str, record: Mapping[str, Any], empty: str) -> str:
    """What a field or a template gives for a record.

    wanted: a name, or a text with names in braces; `{{` and `}}` stand for braces.
    record: the fields by name. `a.b` is the field of that name, else `b` inside `a`; a number counts in a list.
    empty: the reason for leaving the record out when there is no text.

    A name alone must be a text. In a template numbers and booleans are as JSON writes them, and the items of a
    list stand on lines of their own. Nothing in it is evaluated. Raises `UnusableRow`.
    """
    names = fields_in(wanted)
    if names == [wanted]:
        text = _plain_text(record, wanted, empty)
    else:
        filled = {name: _filled(record, name, empty) for name in names}
        text = _BRACES.sub(lambda match: match[0][0] if match[1] is None else filled[match[1]], wanted)
    if not text.strip():
        raise UnusableRow(empty, f"gives no text for {wanted[:60]!r}", _REMEDY)
    return text


def _plain_text(record: Mapping[str, Any], name: str, empty: str) -> str:
    value = _value(record, name)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise UnusableRow(empty, f"has no text in {name!r}", _REMEDY)
    if not isinstance(value, str):
        as_template = f"write {{{name}}} to take numbers and lists as text"
        remedy = as_template if isinstance(value, (int, float, list)) else _REMEDY
        raise UnusableRow(UNREADABLE, f"has no text in {name!r}", remedy)
    return whole(value, name)


def _filled(record: Mapping[str, Any], name: str, empty: str) -> str:
    value = _value(record, name)
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, (str, int, float)) or (isinstance(item, float) and not math.isfinite(item)):
            raise UnusableRow(empty if item is None else UNREADABLE, f"has no text in {name!r}", _REMEDY)
    try:
        text = "\n".join(item if isinstance(item, str) else json.dumps(item) for item in items)
    except ValueError:  # a number of thousands of digits
        raise UnusableRow(UNREADABLE, f"has a number without end in {name!r}", "save it as text") from None
    return whole(text, name)


def whole(text: str, name: str) -> str:
    """The text, if it is one; raises `UnusableRow` where it has half a character, as JSON allows."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnusableRow(UNREADABLE, f"has half a character in {name!r}", "save the text as UTF-8") from None
    return text


def _value(record: Mapping[str, Any], name: str) -> Any:
    """What a record has under a name; raises `UnusableRow` where it has nothing of that name."""
    if name in record:
        return record[name]
    value: Any = record
    for part in name.split("."):
        value = _inside(value, part)
        if value is _MISSING:
            raise UnusableRow(NO_FIELD, f"has no text in {name!r}", _REMEDY)
    return value


def _inside(value: Any, part: str) -> Any:
    """One step of a way: a field, an item by its number, or that field of every item."""
    if isinstance(value, Mapping):
        return value.get(part, _MISSING)
    if not isinstance(value, list):
        return _MISSING
    if part.isascii() and part.isdigit():
        at = int(part) if len(part) < 10 else len(value)
        return value[at] if at < len(value) else _MISSING
    items = [_inside(item, part) if isinstance(item, Mapping) else _MISSING for item in value]
    return _MISSING if _MISSING in items else items
