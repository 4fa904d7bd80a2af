"""AdaLoRA: ΔW = s·B·diag(E)·A, with the rank that pruning left each module (Zhang et al., 2023).

What PEFT refuses to load is refused here with what to change in the config; the rest is read as PEFT reads it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from surgery.adapter.lora_config import RESTORE, LoraRules, is_alpha, is_rank
from surgery.adapter.tensor_names import FactorPair
from surgery.errors import AdapterError

_EPSILON = 1e-5  # PEFT adds it to the rank that alpha is divided by
_MARKS = "write it as a list of true and false, one for each of the init_r triplets, true where it was kept"


def is_adalora(config: Mapping[str, Any]) -> bool:
    """Whether a config is AdaLoRA's."""
    return config.get("peft_type") == "ADALORA"


def refuse_unloadable(config: Mapping[str, Any]) -> None:
    """Raise `AdapterError` for a config of AdaLoRA that PEFT does not load."""
    if config.get("use_dora") or config.get("target_parameters"):
        raise AdapterError(
            "AdaLoRA has no DoRA and no raw parameters in PEFT, and the config asks for them", RESTORE
        )
    first, last, steps = (config.get(name) or 0 for name in ("tinit", "tfinal", "total_step"))
    if not all(isinstance(value, int) for value in (first, last, steps)) or steps <= 0 or first >= steps - last:
        needed = f"{first + last + 1}" if isinstance(first, int) and isinstance(last, int) else "their sum + 1"
        raise AdapterError(
            f"PEFT loads no AdaLoRA with total_step {config.get('total_step')!r}, tinit {first!r} and tfinal {last!r}",
            f"set total_step in adapter_config.json to {needed} or more: it counts in training alone",
        )


def refuse_other_factors(config: Mapping[str, Any], pairs: Iterable[FactorPair]) -> None:
    """Raise `AdapterError` for factors with a diagonal in a plain LoRA, and without one in AdaLoRA: PEFT loads neither."""
    for pair in pairs:
        if (pair.key_E is not None) != is_adalora(config):
            has = "a lora_E" if pair.key_E is not None else "no lora_E"
            raise AdapterError(
                f"module {pair.module!r} has {has} and the config says {config.get('peft_type')}", RESTORE
            )


def kept_triplets(config: Mapping[str, Any], ranks: Mapping[str, int]) -> dict[str, list[bool]]:
    """The rank pattern of the same adapter with fewer triplets: of each module the first so many that were kept.

    config: of an adapter that opened; the divisor of alpha, `init_r`, stays, and so does the scaling.
    ranks: triplets left of each module, by its path.
    """
    first = int(config.get("init_r", 12))
    keys = {_module(key): key for key in _patterns(config)}
    found = dict(_patterns(config))  # of modules that pruning left nothing, too
    for module, rank in ranks.items():
        key = keys.get(module, f"{module}.lora_E")
        marks = _patterns(config).get(key, [True] * first)
        kept = [place for place, mark in enumerate(marks) if mark][:rank]
        found[key] = [place in kept for place in range(first)]
    return found


class AdaLoraRules(LoraRules):
    """Rank and scaling by module path: PEFT divides alpha by the rank that training began with, pruned or not."""

    def __init__(self, config: Mapping[str, Any], modules: Iterable[str]) -> None:
        """config: of the adapter; modules: that the file has factors of. Raises `AdapterError` where they differ."""
        super().__init__(config)
        self._first: Any = config.get("init_r", 12)
        self._alpha: Any = config.get("lora_alpha")
        if not is_rank(self._first):
            raise AdapterError(f"init_r {self._first!r} is no positive whole number", RESTORE)
        if not is_alpha(self._alpha):
            raise AdapterError(f"lora_alpha {self._alpha!r} is no number", RESTORE)
        self._ranks = {_module(key): self._rank(key, kept) for key, kept in _patterns(config).items()}
        for name in sorted(set(self._ranks).difference(modules)):
            raise AdapterError(f"rank_pattern names {name[:80]!r}, of which the file has no factors", RESTORE)

    def rank_and_scaling(self, name: str) -> tuple[int, float]:
        rank = self._ranks.get(name, self._first)
        return rank, float(self._alpha if self._alpha > 0 else rank) / (self._first + _EPSILON)

    def _rank(self, key: str, kept: Any) -> int:
        if not isinstance(kept, list) or not all(isinstance(mark, bool) for mark in kept):
            raise AdapterError(f"PEFT does not load the rank_pattern of {key[:80]!r}, {str(kept)[:40]}", _MARKS)
        if len(kept) != self._first:
            raise AdapterError(
                f"the rank_pattern of {key[:80]!r} has {len(kept)} marks where init_r is {self._first}",
                RESTORE,
            )
        return sum(kept)


def _patterns(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get("rank_pattern") or {}
    if not isinstance(found, dict):
        raise AdapterError("rank_pattern is no list of names and values", RESTORE)
    return found


def _module(key: str) -> str:
    """The module of a key such as `….q_proj.lora_E`; while training it also ends in the adapter's name."""
    return ".".join(key.split(".")[: -2 if "default" in key else -1])
