"""What a module's path says: its index in the layer stack and its kind."""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

_EXPERTS = "experts"
# what stands between the number of a stage and that of its block, by what stands before the stage: in SegFormer
# nothing at all; T5's `block.0.layer.1` is a part of a layer and no block
_BLOCKS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "stages": (("blocks",), ("layers",)),
    "intermediate_stages": (("blocks",),),
    "levels": (("layers",), ("blocks",)),
    "layers": (("blocks",),),
    "network": (("blocks",),),
    "block": ((),),
    "blocks": ((),),
    "layer": (("transformer", "layer"),),
    "albert_layer_groups": (("albert_layers",),),
}
_MOST_KINDS = 300  # each is compared with all others; a language model has a few dozen


def layers_of(names: Iterable[str]) -> dict[str, int | None]:
    """The index in the layer stack of each module: the first whole-number component of its path.

    In a model of stages, such as `stages.1.blocks.0`, it is the place in depth over all stages, of which each counts
    for as many blocks as the names show. None for a module outside the stack.
    """
    found = {name: _indices(name) for name in names}
    sizes: dict[tuple[str, ...], dict[int, int]] = {}  # blocks of every stage, by what comes before the stages
    for name, indices in found.items():
        if len(indices) == 2:
            stage, block = _numbers(name, indices)
            stages = sizes.setdefault(_before(name, indices), {})
            stages[stage] = max(stages.get(stage, 0), block + 1)
    return {name: _depth(name, indices, sizes) for name, indices in found.items()}


def _depth(name: str, indices: Sequence[int], sizes: Mapping[tuple[str, ...], Mapping[int, int]]) -> int | None:
    numbers = _numbers(name, indices)
    if len(numbers) < 2:
        return numbers[0] if numbers else None
    stages = sizes[_before(name, indices)]
    return sum(size for stage, size in stages.items() if stage < numbers[0]) + numbers[1]


def _numbers(name: str, indices: Sequence[int]) -> list[int]:
    parts = name.split(".")
    return [int(parts[index]) for index in indices]


def _before(name: str, indices: Sequence[int]) -> tuple[str, ...]:
    return tuple(name.split(".")[: indices[0]])


# an adapter of many experts asks three times for each of its modules
@lru_cache(maxsize=1 << 17)
def _indices(name: str) -> tuple[int, ...]:
    """Where a path has its layer: one component, none, or two in a model of stages, stage and block."""
    parts = name.split(".")
    first = next((i for i, part in enumerate(parts) if _is_index(part)), None)
    if first is None:
        return ()
    second = next((i for i in range(first + 1, len(parts)) if _is_index(parts[i])), None)
    if first > 0 and second is not None and tuple(parts[first + 1 : second]) in _BLOCKS.get(parts[first - 1], ()):
        return first, second
    return (first,)


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
    layers = layers_of(names := list(names))
    return sorted(names, key=lambda name: math.inf if (layer := layers[name]) is None else layer)


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
    layer = _indices(name)
    kept = tuple(part for i, part in enumerate(parts) if i not in layer and not is_expert_number(parts, i))
    return kept or ("layer",)  # the layers of a bare sequential model are named by number alone


def is_expert_number(parts: Sequence[str], at: int) -> bool:
    """Whether a component of a path is the number of an expert: it follows `experts`."""
    return at > 0 and parts[at - 1] == _EXPERTS and _is_index(parts[at])


def _is_index(part: str) -> bool:
    return part.isdigit() and part.isascii() and len(part) <= 9
