"""The base model without its adapter, as a variant beside the others.

σ = 0 takes every LoRA update out. Whatever else training left in the adapter stays in then: biases, saved modules,
trained tokens, DoRA's norms, replicated layers. With any of these the whole adapter has to be taken out.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.adapter import LORA_BIAS, TRAINED_TOKENS, TRAINING_ONLY, Adapter, module_path
from surgery.errors import BaseModelError
from surgery.model.base import LoadedBase
from surgery.spectra import Spectra


def silenced(spectra: Spectra) -> dict[str, Float64[ndarray, " rank"]]:
    """σ = 0 in every module, a `Variant`: the base model, where the adapter `changes_beside_sigma` nothing."""
    return {name: np.zeros_like(spectrum.sigma) for name, spectrum in spectra.items()}


def changes_beside_sigma(adapter: Adapter) -> tuple[str, ...]:
    """What an adapter changes in its base model that no σ takes out, in words; empty for a plain LoRA."""
    found = dict.fromkeys(_kinds(adapter))
    if any(factors.magnitude is not None for factors in adapter.modules.values()):
        found["DoRA's magnitudes"] = None
    if adapter.config.get("layer_replication"):
        found["replicated layers"] = None
    return tuple(found)


def _kinds(adapter: Adapter) -> Iterable[str]:
    for key in adapter.extra:
        path = module_path(key)
        if TRAINING_ONLY.search(path):
            continue
        if LORA_BIAS.match(path):
            yield "LoRA biases"
        elif TRAINED_TOKENS.match(path):
            yield "trained tokens"
        elif path.endswith(".bias") and f"{key.removesuffix('bias')}weight" not in adapter.tensors:
            yield "biases"
        else:
            yield "saved modules"


def refuse_without_base(base: LoadedBase) -> None:
    """Raise `BaseModelError` for a classifier whose head the adapter brings: without it there is nothing to ask."""
    if base.head:
        raise BaseModelError(
            f"the base model {base.location!r} has no {next(iter(base.head))!r} of its own: the head came with the "
            "adapter, so that the base alone says no label",
            "leave the base out (--base-arm)",
        )
