"""Regular expressions that come from a file or a person: compiled within bounds.

Matching has a time limit where it happens. Compiling has none to give, so what would take long to
compile is refused by its looks.
"""

import math
import re
from typing import Any

import regex

LONGEST_PATTERN = 100_000  # a scope that lists a thousand modules by name has half of it
_MOST_REPEATS = 10_000
_BRACES = re.compile(r"\{[^{}]*\}")
_NUMBER = re.compile(r"\d+")


def compile_pattern(pattern: Any) -> Any:
    """The compiled expression. `ValueError` with the reason, on one line, for one that cannot be used.

    Counted repeats are written out by the compiler, one inside the other: `(?:a{3000}){3000}` asks
    for gigabytes, so all counts of a pattern together may ask for no more than ten thousand copies.
    """
    if not isinstance(pattern, str):
        raise ValueError("no text")
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"longer than {LONGEST_PATTERN} characters")
    copies = 1
    for braces in _BRACES.findall(pattern):
        counts = [count[:9] for count in _NUMBER.findall(braces)]
        copies *= max([1, *map(int, counts)])
        if copies > _MOST_REPEATS:
            raise ValueError(f"counted repeats of more than {_MOST_REPEATS} copies")
    try:
        return regex.compile(pattern)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (regex.error, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(str(error)[:120] or type(error).__name__) from error


def seconds_of(budget: float) -> float:
    """A time limit for one match out of what is left of a budget; raises `TimeoutError` when nothing is."""
    if not budget > 0 or math.isnan(budget):
        raise TimeoutError("its time is used up")
    return max(budget, 1e-3)
