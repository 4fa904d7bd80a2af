"""What the names of the tensors in an adapter's file say: pairs of factors, and where each acts.

PEFT names a factor after the module it adapts. It wraps raw parameters in layers of their own, one
inside the other, and stacks the factors of all experts of one parameter in one tensor.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from numpy import ndarray

from surgery.adapter.lora_config import RESTORE
from surgery.adapter.peft_names import PREFIX, SAVE_AGAIN
from surgery.adapter.site import ConvSite, EmbeddingSite, FlatSite, ParameterSite, Site
from surgery.errors import AdapterError

_FACTOR = re.compile(
    r"^(?P<path>.+)\.(?:lora_(?P<side>[AB])\.weight|lora_embedding_(?P<table>[AB])|lora_(?P<triplet>[ABE])"
    r"|lora_(?P<magnitude>magnitude_vector)(?:\.weight)?)$"
)
LORA_BIAS = re.compile(r"^(?P<module>.+)\.lora_B\.bias$")
TRAINED_TOKENS = re.compile(r"^(?P<module>.+?)(?:\.token_adapter)?\.trainable_tokens_delta$")
# what MonteCLoRA and VeLoRA keep for training; their forward pass in evaluation is that of a plain LoRA. Of a saved
# module that was resized PEFT also saves the untrained original
TRAINING_ONLY = re.compile(r"\.lora_(monteclora_sampler|velora_embed)\b|\.original_module\.")
# the order in which modules of experts register their parameters, and so the order PEFT wraps them in
_PARAMETER_ORDER = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")
# no markup, no control characters, nothing that a file system or a shell reads: what frameworks call their modules
_NAME = re.compile(r"[\w.:@+=,()\[\] -]+")
_LONGEST_NAME = 500
_DEEPEST_NAME = 64
MOST_TENSORS = 250_000
_MOST_EXPERTS = 4_096
_ATTENTION_OUTPUT = "out_proj"  # of nn.MultiheadAttention, which PEFT adapts together with its input projection


@dataclass(frozen=True)
class FactorPair:
    """The keys of one pair of factors; `depth` counts the wrappers between it and the module.

    `within` is the adapted module that holds this one, where one does: nn.MultiheadAttention its output projection.
    `key_E` is the key of AdaLoRA's diagonal between the two, `key_magnitude` that of DoRA's norms.
    """

    module: str
    depth: int
    table: bool
    key_A: str
    key_B: str
    within: str = ""
    key_E: str | None = None
    key_magnitude: str | None = None


def module_path(key: str) -> str:
    """The path in the base model behind one of PEFT's names."""
    return key.removeprefix(PREFIX)


def check_names(names: Sequence[str]) -> None:
    """Raise `AdapterError` for names that are no paths of modules, and for more of them than a model has."""
    if len(names) > MOST_TENSORS:
        raise AdapterError(f"the file holds {len(names):,} tensors", "use the adapter of a real model")
    for name in names:
        if len(name) > _LONGEST_NAME or name.count(".") >= _DEEPEST_NAME or not _NAME.fullmatch(name):
            raise AdapterError(f"{name[:80]!r} is no name of a tensor in a model", SAVE_AGAIN)


def pair_factors(tensors: Iterable[str]) -> tuple[list[FactorPair], list[str]]:
    """Pairs of LoRA keys, and the keys that are no LoRA factors."""
    halves: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    extra = []
    for key in tensors:
        match = _FACTOR.match(key)
        if match:
            form = match.lastgroup or ""  # how the layer's kind writes its keys
            known = halves[module_path(match["path"]), form]
            side = match[form]
            if side in known:
                raise AdapterError(f"tensors {known[side]!r} and {key!r} are the same factor", SAVE_AGAIN)
            known[side] = key
        elif ".lora_" in key and not (LORA_BIAS.match(key) or TRAINING_ONLY.search(key)):
            raise AdapterError(
                f"tensor {key!r} is a LoRA part that is not known, and no conversion of it is",
                "train it as a plain LoRA",
            )
        else:
            extra.append(key)
    if not any(form != "magnitude" for _, form in halves):
        raise AdapterError("the file holds no LoRA factors", "open a LoRA adapter saved by peft")
    magnitudes = {path: halves.pop((path, form)) for path, form in list(halves) if form == "magnitude"}
    pairs = []
    for (path, form), sides in halves.items():
        whole = "ABE" if form == "triplet" else "AB"
        if len(sides) < len(whole):
            have, lacks = (
                " and ".join(f"lora_{s}" for s in whole if (s in sides) == held) for held in (True, False)
            )
            raise AdapterError(f"module {path!r} has {have} without {lacks}", SAVE_AGAIN)
        nested = [part for part in path.split(".") if part in ("modules_to_save", "original_module")]
        if nested:
            raise AdapterError(
                f"module {path!r} lies inside {nested[0]}: it is both saved whole and adapted, "
                "so which of its copies is in use is ambiguous",
                "train it either as a LoRA target or as a saved module",
            )
        module = path
        while module.endswith(".base_layer"):
            module = module.removesuffix(".base_layer")
        depth = (len(path) - len(module)) // len(".base_layer")
        within, _, inside = module.rpartition(".base_layer.")
        holder = within.replace(".base_layer.", ".") if inside == _ATTENTION_OUTPUT else ""
        magnitude = next(iter(magnitudes.pop(path, {}).values()), None)
        keys = (sides["A"], sides["B"], holder, sides.get("E"), magnitude)
        pairs.append(FactorPair(module.replace(".base_layer.", "."), depth, form == "table", *keys))
    for path in magnitudes:
        raise AdapterError(f"module {path!r} has a lora_magnitude_vector without its factors", SAVE_AGAIN)
    return pairs, extra


def depths_of(pairs: Iterable[FactorPair]) -> dict[str, list[int]]:
    """How deep the pairs of every module are wrapped, innermost first."""
    found: dict[str, list[int]] = defaultdict(list)
    for pair in pairs:
        found[pair.module].append(pair.depth)
    return {module: sorted(depths, reverse=True) for module, depths in found.items()}


def parameter_of(
    pair: FactorPair, wrapped: Mapping[str, list[int]], named: Sequence[str], alone: Sequence[str]
) -> str:
    """Which raw parameter a pair belongs to: PEFT wraps a module once per parameter, first one innermost.

    pair: one pair of factors.
    wrapped: the depths of all pairs, by module.
    named: parameters that the config names together with the module.
    alone: those it names without one, which this module need not have.

    Raises `AdapterError` where neither accounts for the module's pairs, and where their order is not known.
    """
    depths, both = wrapped[pair.module], [*named, *alone]
    parameters = next((some for some in (named, both, alone) if len(some) == len(depths)), both)
    order = sorted(parameters, key=lambda name: _PARAMETER_ORDER.index(name) if name in _PARAMETER_ORDER else -1)
    if len(depths) != len(order) or (len(order) > 1 and any(name not in _PARAMETER_ORDER for name in order)):
        raise AdapterError(
            f"module {pair.module!r} has {len(depths)} pairs of factors for the parameters {', '.join(parameters)}, "
            "and the file does not say which belongs to which",
            "use LoRA on one parameter, or on the experts' gate_up_proj and down_proj",
        )
    return order[depths.index(pair.depth)]


def sites_of(
    pair: FactorPair, path: str, raw: bool, A: ndarray, B: ndarray, rank: int
) -> Iterable[tuple[str, Site]]:
    """Name and site of every update that a pair of tensors holds."""
    if pair.table and A.ndim == B.ndim == 2:
        yield path, EmbeddingSite(pair.module)
    elif pair.key_E is not None and A.ndim == B.ndim == 2:
        yield path, FlatSite(pair.module)
    elif raw and A.ndim == B.ndim == 2:
        parameter, experts = path.rpartition(".")[2], max(A.shape[0] // rank, 1)
        if A.shape[0] != experts * rank or B.shape[1] != experts * rank:
            raise AdapterError(
                f"parameter {path!r} has factors of {A.shape[0]} and {B.shape[1]} rows, no multiple of rank {rank}",
                RESTORE,
            )
        if experts > _MOST_EXPERTS:
            raise AdapterError(
                f"parameter {path!r} has factors for {experts:,} experts", "use the adapter of a real model"
            )
        for expert in range(experts):
            name = f"{pair.module}.{expert}.{parameter}" if experts > 1 else path.removesuffix(".weight")
            yield name, ParameterSite(pair.module, parameter, expert, experts)
    elif A.ndim == B.ndim == 2:
        yield path, Site(pair.module)
    elif 3 <= A.ndim == B.ndim <= 5 and pair.key_E is None:
        if A.shape[0] != B.shape[1] or B.size != B.shape[0] * B.shape[1]:
            raise AdapterError(
                f"module {path!r} is a convolution in groups (factors of shape {A.shape} and {B.shape})",
                "use LoRA on convolutions with one group",
            )
        yield path, ConvSite(pair.module, tuple(A.shape[1:]))
    else:
        raise AdapterError(
            f"module {path!r} has factors of {A.ndim} and {B.ndim} dimensions",
            "use LoRA on linear, embedding and convolution layers",
        )
