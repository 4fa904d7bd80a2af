"""YAML of any origin as plain values: no Python objects, and no more work than its length is worth.

An alias stands for what it names as often as it is written, an abbreviated tag is written out at every
use, a number may have a hundred thousand digits in base sixty, and the parsers follow nesting with
their own stack. The stream of events shows all of these before anything is built.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml

from surgery.errors import RecipeError, first_line

LONGEST = 1 << 20  # characters; a gain for every component of a large adapter takes half of it
_MOST_EVENTS = 64_000
_DEEPEST = 32
_LONGEST_NUMBER = 1_000
_TAG = "tag:yaml.org,2002:"
_NUMBERS = (f"{_TAG}int", f"{_TAG}float", f"{_TAG}timestamp")
# libyaml's parser is ten times as fast, and part of every wheel; its composer has no limit of depth
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(text: str, what: str) -> Any:
    """The plain value of a YAML text; raises `RecipeError` for anything else, naming `what` it was to be."""
    try:
        return load_yaml(text)
    except ValueError as error:
        raise RecipeError(f"{what} is not YAML ({error})", "mend the file") from error


def load_yaml(text: str, marks: Mapping[str, Callable[[str], Any]] | None = None) -> Any:
    """The plain value that a text of one YAML document holds.

    marks: what becomes of the scalars under further tags, by the tag (`!name`).

    Raises `ValueError` with the reason, on one line, for what is no YAML, and for aliases, tags other
    than YAML's own, a name that stands twice in one mapping, and more text, nesting or entries than a
    file written by a person or by this project has.
    """
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST:,} characters")
    try:
        _check_events(text, marks or {})
        return yaml.load(text, _marking(marks) if marks else _Loader)
    except (
        yaml.YAMLError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        AttributeError,
        RecursionError,
    ) as error:
        raise ValueError(first_line(error)) from error


def _marking(marks: Mapping[str, Callable[[str], Any]]) -> Any:
    """A loader that makes of a tagged scalar what its mark says."""

    class Marking(_Loader):  # type: ignore[misc]  # chosen when this is imported
        pass

    for tag, mark in marks.items():

        def made(loader: Any, node: Any, mark: Callable[[str], Any] = mark) -> Any:
            return mark(loader.construct_scalar(node))

        Marking.add_constructor(tag, made)
    return Marking


def _check_events(text: str, marks: Mapping[str, Any]) -> None:
    resolver = _Loader("")
    within: list[_Collection] = []
    events: Iterator[Any] = yaml.parse(text, _Loader)
    for count, event in enumerate(events):
        if count > _MOST_EVENTS:
            raise ValueError(f"more than {_MOST_EVENTS // 2:,} entries")
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases are not allowed")
        # a directive abbreviates a tag of any length, which every use writes out again
        tag = getattr(event, "tag", None) or _TAG
        if not tag.startswith(_TAG) and not (tag in marks and isinstance(event, yaml.ScalarEvent)):
            raise ValueError("tags of other kinds than YAML's own are not allowed")
        if isinstance(event, yaml.CollectionEndEvent):
            within.pop()
            continue
        is_scalar = isinstance(event, yaml.ScalarEvent)
        if is_scalar and len(event.value) > _LONGEST_NUMBER:
            tag = event.tag or resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
            if tag in _NUMBERS:
                raise ValueError("a number is too long")
        if within and (is_scalar or isinstance(event, yaml.CollectionStartEvent)):
            within[-1].holds(event.value if is_scalar else None)
        if isinstance(event, yaml.CollectionStartEvent):
            within.append(_Collection(isinstance(event, yaml.MappingStartEvent)))
            if len(within) > _DEEPEST:
                raise ValueError("nested too deeply")


class _Collection:
    """A mapping or sequence that is being read; in a mapping every other entry is a name."""

    def __init__(self, is_mapping: bool) -> None:
        self._names: set[str] | None = set() if is_mapping else None
        self._is_name = True

    def holds(self, text: str | None) -> None:
        """Take note of an entry; `text` is None for a collection."""
        if self._names is None:
            return
        if self._is_name and text is not None:
            if text in self._names:
                raise ValueError(f"{text[:60]!r} stands there twice")
            self._names.add(text)
        self._is_name = not self._is_name
