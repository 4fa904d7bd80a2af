"""What a module's path says: its index in the layer stack and its kind."""

import math
from collections.abc import Iterable

_EXPERTS = "experts"
_MOST_KINDS = 300  # each is compared with all others; a language model has a few dozen


def layer_of(name: str) -> int | None:
    """The index in the layer stack: the first whole-number component of a module's path."""
    return next((int(part) for part in name.split(".") if _is_index(part)), None)


def families_of(names: Iterable[str]) -> dict[str, str]:
    """Name each module's kind by its last path component and what else tells the kinds apart.

    `model.layers.7.self_attn.o_proj` is of kind `o_proj`. Where two kinds end alike, the components
    nearest to the end that separate them come in front: GPT-2 has `attn.c_proj` and `mlp.c_proj`,
    T5 has `encoder.SelfAttention.q` and `decoder.SelfAttention.q`. The experts of a layer are one kind.
    """
    kinds = {name: _without_indices(name) for name in names}
    labels = _labels(set(kinds.values()))
    return {name: labels[kind] for name, kind in kinds.items()}


def in_layer_order(names: Iterable[str]) -> list[str]:
    """Layer by layer, file order inside a layer; modules outside the stack come last."""
    return sorted(names, key=lambda name: math.inf if (layer := layer_of(name)) is None else layer)


def _labels(kinds: set[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    if len(kinds) > _MOST_KINDS:
        return {kind: ".".join(kind) for kind in kinds}
    labels = {}
    for kind in kinds:
        alike, kept = {other for other in kinds if other[-1] == kind[-1]}, [1]
        # names say more than numbers; of each, the nearest to the end come first
        for back in sorted(range(2, len(kind) + 1), key=lambda back: (_is_index(kind[-back]), back)):
            fewer = {other for other in alike if len(other) >= back and other[-back] == kind[-back]}
            if len(fewer) < len(alike):
                alike = fewer
                kept.append(back)
        labels[kind] = ".".join(kind[-back] for back in sorted(kept, reverse=True))
    if len(set(labels.values())) < len(labels):  # a kind that is another one's path cut short
        return {kind: ".".join(kind) for kind in kinds}
    return labels


def _without_indices(name: str) -> tuple[str, ...]:
    """The path without its layer index and without the number of an expert."""
    parts = name.split(".")
    layer = next((i for i, part in enumerate(parts) if _is_index(part)), None)
    kept = tuple(
        part
        for i, part in enumerate(parts)
        if i != layer and not (_is_index(part) and i > 0 and parts[i - 1] == _EXPERTS)
    )
    return kept or ("layer",)  # the layers of a bare sequential model are named by number alone


def _is_index(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) <= 9
