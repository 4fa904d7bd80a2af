"""Which modules an edit touches: the paper's residual writers, other named groups, or a regular expression."""

from collections.abc import Iterable
from typing import Any

import regex

from surgery.errors import PolicyError

SCOPES = ("residual", "attention-inputs", "all")
# residual writers and attention inputs under the names that common architectures give them
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
_SCOPE_SECONDS = 1.0


def in_scope(names: Iterable[str], scope: str) -> list[str]:
    """Modules in `scope`: `residual`, `attention-inputs`, `all`, or a regular expression.

    The expression is searched in the module's full path. Raises `PolicyError` when nothing matches.
    """
    if scope == "all":
        chosen = list(names)
    elif scope in SCOPES:
        last = _RESIDUAL if scope == "residual" else _ATTENTION
        chosen = [name for name in names if name.rpartition(".")[2] in last]
    else:
        pattern = check_scope(scope)
        try:
            chosen = [name for name in names if pattern.search(name, timeout=_SCOPE_SECONDS)]
        except TimeoutError as error:
            raise PolicyError(f"scope {scope!r} takes too long to match", "use a simpler expression") from error
    if not chosen:
        raise PolicyError(f"scope {scope!r} matches no module", "use all, or a part of a module's path")
    return chosen


def check_scope(scope: str) -> Any:
    """The compiled expression of a scope; raises `PolicyError` for one that is no regular expression."""
    try:
        return regex.compile(scope)
    except (regex.error, TypeError) as error:
        raise PolicyError(
            f"scope {scope!r} is no usable regular expression ({error})",
            f"use {', '.join(SCOPES)} or a simpler one",
        ) from error
