"""What checks the shapes that annotations promise, for jaxtyping's hook (`--jaxtyping-packages`)."""

from collections import Counter
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from inspect import isclass
from typing import Any, TypeVar, get_args

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray, jaxtyped

Function = TypeVar("Function", bound=Callable[..., Any])
# as in mypy an int is a float where a float is asked for
_CHECKED = beartype(conf=BeartypeConf(is_pep484_tower=True))
# a check takes some 0.1 ms: a test that calls a function a thousand times learns no more from all of them
CALLS = 20
# of each function in the present test
calls: Counter[Callable[..., Any]] = Counter()


def check(function: Function) -> Function:
    """The function with its annotations of shapes checked; the others, where names stand that only mypy imports, not."""
    function.__annotations__ = _shaped(function)
    return _CHECKED(function) if function.__annotations__ else function


def unchecked(function: Function) -> Function:
    """The function without its checks, for a test of its own refusal, before which the check would come."""
    return getattr(function, "__wrapped__", function)


def watch() -> None:
    """Let the hook check the first CALLS calls in each test, and only where an annotation has a shape."""
    jaxtyping.jaxtyped = _where_shaped


def _where_shaped(*, typechecker: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(found: Any) -> Any:
        if not isclass(found):
            return _first_calls(found, typechecker) if _shaped(found) else found
        if is_dataclass(found) and _shaped(found.__init__):
            found.__init__ = _first_calls(found.__init__, typechecker)
        return found

    return decorate


def _first_calls(function: Function, typechecker: Callable[[Any], Any]) -> Function:
    checked = jaxtyped(function, typechecker=typechecker)

    @wraps(function)
    def called(*args: Any, **named: Any) -> Any:
        calls[function] += 1
        return (checked if calls[function] <= CALLS else function)(*args, **named)

    return called


def _shaped(function: Callable[..., Any]) -> dict[str, Any]:
    return {name: hint for name, hint in getattr(function, "__annotations__", {}).items() if _has_shape(hint)}


def _has_shape(hint: Any) -> bool:
    if isclass(hint) and issubclass(hint, AbstractArray):
        return True
    return any(_has_shape(part) for part in get_args(hint))
