"""Which modules an edit touches: the paper's residual writers, other named groups, or a regular expression."""

import time
from collections.abc import Iterable
from typing import Any

import regex

from surgery.errors import PolicyError
from surgery.files import compile_pattern

SCOPES = ("residual", "attention-inputs", "gate-up", "all")
# residual writers, attention inputs and the first half of the MLP under the names that common architectures give them
_RESIDUAL = ("o_proj", "down_proj", "out_proj", "c_proj", "dense", "dense_4h_to_h", "fc2", "wo", "o")
_ATTENTION = (
    "q_proj",
    "k_proj",
    "v_proj",
    "qkv_proj",
    "c_attn",
    "query_key_value",
    "query",
    "key",
    "value",
    "q",
    "k",
    "v",
)
_GATE_UP = ("gate_proj", "up_proj", "gate_up_proj", "fc1", "c_fc", "dense_h_to_4h", "wi", "wi_0", "wi_1")
_KINDS = {"residual": _RESIDUAL, "attention-inputs": _ATTENTION, "gate-up": _GATE_UP}
_SCOPE_SECONDS = 1.0


def in_scope(names: Iterable[str], scope: str) -> list[str]:
    """Modules in `scope`: `residual`, `attention-inputs`, `gate-up`, `all`, or a regular expression.

    The expression is searched in the module's full path. Raises `PolicyError` when nothing matches.
    """
    if scope == "all":
        chosen = list(names)
    elif scope in _KINDS:
        chosen = [name for name in names if name.rpartition(".")[2] in _KINDS[scope]]
    else:
        pattern = check_scope(scope)
        end = time.monotonic() + _SCOPE_SECONDS
        try:
            chosen = [name for name in names if pattern.search(name, timeout=max(end - time.monotonic(), 1e-3))]
        except TimeoutError as error:
            raise PolicyError(
                f"scope {scope[:80]!r} takes too long to match", "use a simpler expression"
            ) from error
    if not chosen:
        raise PolicyError(f"scope {scope[:80]!r} matches no module", "use all, or a part of a module's path")
    return chosen


def scope_for(names: Iterable[str], chosen: Iterable[str]) -> str:
    """A scope that selects exactly `chosen` of `names`: a named one where one does, else an expression."""
    names, wanted = list(names), set(chosen)
    for scope in SCOPES:
        try:
            if set(in_scope(names, scope)) == wanted:
                return scope
        except PolicyError:
            continue  # it matches nothing here
    return "^(" + "|".join(regex.escape(name) for name in names if name in wanted) + ")$"


def check_scope(scope: str) -> Any:
    """The compiled expression of a scope; raises `PolicyError` for one that is no regular expression."""
    try:
        return compile_pattern(scope)
    except ValueError as error:
        raise PolicyError(
            f"scope {str(scope)[:80]!r} is no usable regular expression ({error})",
            f"use {', '.join(SCOPES)} or a simpler one",
        ) from error
