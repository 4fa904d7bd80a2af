"""What of an answer counts: the filters through which answer and reference go before they are compared.

They do what lm-eval's filters and the options of its exact match do, one after the other:

    strip            white space around the text goes
    lower            small letters, as `ignore_case`
    no-punctuation   ASCII punctuation goes, as `ignore_punctuation`
    number           a number is written in one way: `$1,200.50` and `1200.5` are the same
    regex: PATTERN   the first match, or its first group that is not empty, as lm-eval's filter `regex`
    regex-last: PATTERN  the last match, as that with `group_select: -1`
    remove: PATTERN  every match goes, as `regexes_to_ignore`
"""

import string
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any

from surgery.errors import DataError
from surgery.files import compile_pattern

PLAIN_FILTERS = ("strip", "lower", "no-punctuation", "number")
PATTERN_FILTERS = ("regex", "regex-last", "remove")
_SECONDS = 2.0  # for one text
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_LONGEST_NUMBER = 200  # characters; what is longer is compared as a text

Filter = Callable[[str], str | None]


class AnswerFilters:
    """Filters made from their texts, applied in that order. Raises `DataError` for a text that names none.

    Called with a text, they give what is left of it, None where an expression that extracts finds nothing; white
    space around it never counts. Raises `DataError` where an expression takes too long.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._filters = [_filter(text) for text in texts]

    def __bool__(self) -> bool:
        return bool(self._filters)

    def __call__(self, text: str) -> str | None:
        for each in self._filters:
            left = each(text)
            if left is None:
                return None
            text = left
        return text.strip()


def _filter(text: str) -> Filter:
    name, colon, pattern = text.partition(":")
    name = name.strip()
    if name in PATTERN_FILTERS and pattern.strip():
        return partial(_PATTERNS[name], text, _compiled(text, pattern.strip()))
    if name in PLAIN_FILTERS and not colon:
        return _PLAIN[name]
    known = ", ".join([*PLAIN_FILTERS, *(f"'{each}: PATTERN'" for each in PATTERN_FILTERS)])
    raise DataError(f"there is no filter {text[:80]!r}", f"use {known}")


def _compiled(text: str, pattern: str) -> Any:
    try:
        return compile_pattern(pattern)
    except ValueError as error:
        raise DataError(
            f"the filter {text[:80]!r} is no usable regular expression ({error})", "mend it"
        ) from error


def _match(text: str, pattern: Any, answer: str, *, place: int) -> str | None:
    found = _within_time(text, lambda: pattern.findall(answer, timeout=_SECONDS))
    if not found:
        return None
    groups = found[place] if isinstance(found[place], tuple) else (found[place],)
    return next((group.strip() for group in groups if group), None)


def _without(text: str, pattern: Any, answer: str) -> str:
    left: str = _within_time(text, lambda: pattern.sub("", answer, timeout=_SECONDS))
    return left


def _within_time(text: str, match: Callable[[], Any]) -> Any:
    try:
        return match()
    except TimeoutError as error:
        raise DataError(
            f"the filter {text[:80]!r} takes more than {_SECONDS:g} s on one answer", "use a simpler expression"
        ) from error


def _number(answer: str) -> str:
    """A number in one way of writing; any other text as it is."""
    bare = answer.strip().removesuffix(".").replace(",", "").replace("$", "").replace(" ", "")
    if len(bare) > _LONGEST_NUMBER:
        return answer
    try:
        number = Decimal(bare)
    except InvalidOperation:
        return answer
    # an exponent could ask for a text of any length
    if not number.is_finite() or abs(number.adjusted()) > _LONGEST_NUMBER:
        return answer
    return format(number.normalize() + 0, "f")


_PLAIN: dict[str, Filter] = {
    "strip": str.strip,
    "lower": str.lower,
    "no-punctuation": lambda answer: answer.translate(_NO_PUNCTUATION),
    "number": _number,
}
_PATTERNS: dict[str, Callable[..., str | None]] = {
    "regex": partial(_match, place=0),
    "regex-last": partial(_match, place=-1),
    "remove": _without,
}
