"""Which modules an edit touches: the paper's residual writers, other named groups, or a regular expression."""

import time
from collections.abc import Iterable
from typing import Any

import regex

from surgery.adapter.module_paths import is_expert_number
from surgery.adapter.module_roles import ATTENTION, GATE_UP, RESIDUAL, role_of
from surgery.errors import PolicyError
from surgery.files import compile_pattern

SCOPES = (RESIDUAL, ATTENTION, GATE_UP, "all")
_ROLES = SCOPES[:3]
_SCOPE_SECONDS = 1.0


def in_scope(names: Iterable[str], scope: str) -> list[str]:
    """Modules in `scope`: `residual`, `attention-inputs`, `gate-up`, `all`, or a regular expression.

    The expression is searched in the module's full path. `residual`, the default everywhere, takes all modules where
    none is known to write into the residual stream, and `scope_note` says so. Raises `PolicyError` when nothing
    matches.
    """
    names = list(names)
    chosen = modules_in(names, scope)
    if not chosen and scope == RESIDUAL:
        chosen = names
    if not chosen:
        raise PolicyError(f"scope {scope[:80]!r} matches no module", "use all, or a part of a module's path")
    return chosen


def scope_note(names: Iterable[str]) -> str:
    """What is to be told of the default scope of an adapter without a residual writer; empty for all others."""
    names = list(names)
    if not names or modules_in(names, RESIDUAL):
        return ""
    which = "the one module" if len(names) == 1 else f"all {len(names):,} modules"
    return f"no module is known to write into the residual stream: the scope residual takes {which}"


def modules_in(names: Iterable[str], scope: str) -> list[str]:
    """Modules that a scope names by themselves; none where it names none. Raises `PolicyError` for no expression."""
    if scope == "all":
        return list(names)
    if scope in _ROLES:
        return [name for name in names if role_of(name) == scope]
    pattern = check_scope(scope)
    end = time.monotonic() + _SCOPE_SECONDS
    try:
        return [name for name in names if pattern.search(name, timeout=max(end - time.monotonic(), 1e-3))]
    except TimeoutError as error:
        raise PolicyError(f"scope {scope[:80]!r} takes too long to match", "use a simpler expression") from error


def scope_for(names: Iterable[str], chosen: Iterable[str]) -> str:
    """A scope that selects exactly `chosen` of `names`: a named one where one does, else an expression.

    The expression names layers and kinds of modules where whole kinds of whole layers are chosen, the experts of a
    layer being of one kind; otherwise every module.
    """
    names, wanted = list(names), set(chosen)
    for scope in SCOPES:
        if wanted and set(modules_in(names, scope)) == wanted:
            return scope
    whole = "^(" + "|".join(regex.escape(name) for name in names if name in wanted) + ")$"
    grouped = _by_kind_and_layer(name for name in names if name in wanted)
    if wanted and len(grouped) < len(whole) and set(modules_in(names, grouped)) == wanted:
        return grouped
    return whole


def _by_kind_and_layer(names: Iterable[str]) -> str:
    """An expression for modules of these kinds in these layers; it may match others too."""
    layers: dict[tuple[str, str], set[str]] = {}  # of every kind, by what stands before the layer and after it
    for name in names:
        parts = name.split(".")
        at = next((i for i, part in enumerate(parts) if part.isdecimal()), len(parts))
        after = [
            r"\d+" if is_expert_number(parts, i) else regex.escape(parts[i]) for i in range(at + 1, len(parts))
        ]
        kind = regex.escape(".".join(parts[:at])), r"\.".join(after)
        layers.setdefault(kind, set()).update(parts[at : at + 1])
    kinds: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (before, after_layer), numbers in layers.items():
        kinds.setdefault((before, tuple(sorted(numbers, key=int))), []).append(after_layer)
    return (
        "^("
        + "|".join(
            rf"{before}\.({'|'.join(numbers)})\.({'|'.join(after)})" if numbers else before
            for (before, numbers), after in kinds.items()
        )
        + ")$"
    )


def check_scope(scope: str) -> Any:
    """The compiled expression of a scope; raises `PolicyError` for one that is no regular expression."""
    try:
        return compile_pattern(scope)
    except ValueError as error:
        raise PolicyError(
            f"scope {str(scope)[:80]!r} is no usable regular expression ({error})",
            f"use {', '.join(SCOPES)} or a simpler one",
        ) from error
