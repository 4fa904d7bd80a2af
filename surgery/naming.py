"""What a module's path says: its index in the layer stack and its kind."""

import math
from collections.abc import Iterable


def layer_of(name: str) -> int | None:
    """The index in the layer stack: the first whole-number component of a module's path."""
    return next((int(part) for part in name.split(".") if _is_index(part)), None)


def families_of(names: Iterable[str]) -> dict[str, str]:
    """Name each module's kind by the shortest path suffix that tells the kinds apart.

    `model.layers.7.self_attn.o_proj` is of kind `o_proj`; where attention and MLP both have a
    `c_proj`, the kinds become `attn.c_proj` and `mlp.c_proj`.
    """
    kinds = {name: _without_layer(name) for name in names}
    distinct = set(kinds.values())
    labels = {}
    for kind in distinct:
        for length in range(1, len(kind) + 1):
            if sum(other[-length:] == kind[-length:] for other in distinct) == 1:
                break
        labels[kind] = ".".join(kind[-length:])
    return {name: labels[kind] for name, kind in kinds.items()}


def in_layer_order(names: Iterable[str]) -> list[str]:
    """Layer by layer, file order inside a layer; modules outside the stack come last."""
    return sorted(names, key=lambda name: math.inf if (layer := layer_of(name)) is None else layer)


def _without_layer(name: str) -> tuple[str, ...]:
    parts = name.split(".")
    index = next((i for i, part in enumerate(parts) if _is_index(part)), None)
    kept = parts if index is None else parts[:index] + parts[index + 1 :]
    return tuple(kept) or ("layer",)  # the layers of a bare sequential model are named by number alone


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= 9
