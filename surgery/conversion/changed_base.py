"""Adapters whose training began from changed base weights, as plain LoRAs.

Their initialisation took s·B₀·A₀ out of the base W and trained on what was left, so the update of W is
s·(B·A − B₀·A₀): a LoRA of twice the rank. On the base that was left, B·A alone is the update, of the rank it has.
LoftQ quantised the rest too, so only the second way is exact for it.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from surgery.adapter import CONFIG_FILE, LoraRules, module_path
from surgery.conversion.errors_of_updates import error_of_product
from surgery.conversion.lora_folder import Lora
from surgery.conversion.plan import UpdateError
from surgery.errors import AdapterError

Tensors = Mapping[str, Shaped[ndarray, "..."]]
_OF_STARTS = {"init_lora_weights": True, "loftq_config": {}, "corda_config": None, "lora_ga_config": None}
_UNFIT = "name the adapter as it was saved before this training began"


def on_residual_base(tensors: Tensors, config: Mapping[str, Any], residual_base: str) -> Lora:
    """The same factors on the base that their training began with: nothing changes but what the config says."""
    modules = {}
    rules = LoraRules(config)
    for name, (B, A) in _pairs(tensors).items():
        scaling = rules.rank_and_scaling(name)[1]
        modules[name] = error_of_product((scaling, B, A), (scaling, B, A))
    return Lora(dict(config) | _OF_STARTS | {"base_model_name_or_path": residual_base}, tensors, modules)


def without_initial(tensors: Tensors, initial: Tensors, config: Mapping[str, Any]) -> Lora:
    """s·(B·A − B₀·A₀) as [B, −B₀]·[A; A₀], on the base as it was before.

    tensors: the trained adapter's.
    initial: those of the same adapter before training.
    config: the trained adapter's.

    Raises `AdapterError` where the two do not have the same factors.
    """
    if config.get("target_parameters"):
        raise AdapterError("the factors of experts' raw parameters cannot be joined", "name the residual base")
    before = _pairs(initial)
    made: dict[str, Shaped[ndarray, "..."]] = dict(tensors)
    for key in _factor_keys(tensors):
        first = initial.get(key)
        if first is None or first.shape != tensors[key].shape:
            raise AdapterError(f"the initial adapter has no {key!r} of the same shape", _UNFIT)
        made[key] = _joined(key, tensors[key], first)
    written = _doubled(config)
    return Lora(written, made, _errors(_pairs(tensors), before, _pairs(made), config, written))


def refuse_trained(tensors: Tensors, initial: Tensors) -> None:
    """Raise `AdapterError` where the initial adapter is the trained one itself."""
    if all(key in initial and tensors[key].tobytes() == initial[key].tobytes() for key in _factor_keys(tensors)):
        raise AdapterError("the initial adapter has the factors of the trained one", _UNFIT)


def _joined(key: str, trained: Shaped[ndarray, "..."], first: Shaped[ndarray, "..."]) -> Shaped[ndarray, "..."]:
    if trained.dtype != first.dtype:
        trained, first = trained.astype(np.float32), first.astype(np.float32)
    down = ".lora_A" in key or ".lora_embedding_A" in key
    return np.concatenate([trained, first if down else -first], axis=0 if down else 1)


def _errors(
    trained: dict[str, tuple[ndarray, ndarray]],
    before: dict[str, tuple[ndarray, ndarray]],
    made: dict[str, tuple[ndarray, ndarray]],
    config: Mapping[str, Any],
    written: Mapping[str, Any],
) -> dict[str, UpdateError]:
    rules, new_rules = LoraRules(config), LoraRules(written)
    found = {}
    for name, (B, A) in trained.items():
        B0, A0 = before[name]
        exact = (np.hstack([B.astype(np.float64), -B0.astype(np.float64)]), np.vstack([A, A0]))
        result = (new_rules.rank_and_scaling(name)[1], *made[name])
        found[name] = error_of_product((rules.rank_and_scaling(name)[1], *exact), result)
    return found


def _doubled(config: Mapping[str, Any]) -> dict[str, Any]:
    """Twice every rank at the same scaling: α/r needs twice the alpha, α/√r the √2-fold."""
    factor = math.sqrt(2) if config.get("use_rslora") else 2
    changes: dict[str, Any] = {"r": config["r"] * 2, "lora_alpha": config["lora_alpha"] * factor}
    for name, by in (("rank_pattern", 2), ("alpha_pattern", factor)):
        if config.get(name):
            changes[name] = {pattern: value * by for pattern, value in config[name].items()}
    return dict(config) | _OF_STARTS | changes


def _factor_keys(tensors: Tensors) -> list[str]:
    return [key for key in tensors if ".lora_A" in key or ".lora_B" in key or ".lora_embedding_" in key]


def _pairs(tensors: Tensors) -> dict[str, tuple[ndarray, ndarray]]:
    """B (out, rank) and A (rank, in) by module; kernels of convolutions are laid flat."""
    halves: dict[str, dict[str, ndarray]] = {}
    for key in _factor_keys(tensors):
        path, _, rest = key.rpartition(".lora_")
        side = rest.removeprefix("embedding_")[0]
        halves.setdefault(module_path(path), {})[side] = tensors[key].reshape(tensors[key].shape[0], -1)
    whole = {name: (sides["B"], sides["A"]) for name, sides in halves.items() if len(sides) == 2}
    if not whole or len(whole) < len(halves):
        raise AdapterError(
            "the file's factors are no pairs", f"restore the weights that belong to its {CONFIG_FILE}"
        )
    return whole
