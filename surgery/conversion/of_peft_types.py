"""LoHa, LoKr, VeRA and what else PEFT can turn into a LoRA, module by module through its own conversion."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Shaped
from numpy import ndarray

from surgery.adapter import PREFIX
from surgery.conversion.errors_of_updates import error_of_dense
from surgery.conversion.lora_folder import Lora, plain_config
from surgery.conversion.plan import UpdateError
from surgery.conversion.with_peft import Tensors
from surgery.errors import AdapterError
from surgery.progress import Control

if TYPE_CHECKING:
    from peft import PeftModel


def lora_of_model(
    model: "PeftModel", config: Mapping[str, Any], tensors: Tensors, rank: int | float, control: Control
) -> Lora:
    """A LoRA of every module that PEFT adapts in `model`; the scaling is 1, as PEFT folds it into B.

    model: the adapter as PEFT runs it.
    config: the adapter's.
    tensors: the adapter's, for the modules that it saved whole.
    rank: of every module, or as a fraction the share of ‖ΔW‖² that a module's rank has to hold.
    control: told of every module.

    Raises `AdapterError` for layers that PEFT cannot convert and for a rank beyond a module's.
    """
    layers = _layers(model)
    found: dict[str, Any] = {}
    modules: dict[str, UpdateError] = {}
    control.begin("converting modules")
    for done, (name, layer) in enumerate(layers.items()):
        control.progress(done, len(layers))
        update = _update(layer)
        B, A = _factors(name, layer, update, rank)
        found |= {f"{PREFIX}{name}.lora_A.weight": A, f"{PREFIX}{name}.lora_B.weight": B}
        modules[name] = error_of_dense(update, (1.0, B, A))
    control.progress(len(layers), len(layers))
    ranks = {name: module.rank for name, module in modules.items()}
    saved = config.get("modules_to_save") or []
    whole = {key: tensor for key, tensor in tensors.items() if set(key.split(".")) & set(saved)}
    highest = max(ranks.values())
    pattern = {name: each for name, each in ranks.items() if each != highest}
    written = plain_config(
        config.get("base_model_name_or_path"),
        highest,
        highest,
        list(modules),
        rank_pattern=pattern,
        alpha_pattern=dict(pattern),
        modules_to_save=saved or None,
        task_type=config.get("task_type"),
    )
    return Lora(written, found | whole, modules)


def _layers(model: "PeftModel") -> dict[str, Any]:
    """The layers that PEFT put into the base, by the paths of what they wrap."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    found: dict[str, Any] = {}
    for path, layer in model.named_modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        name, inner = path.removeprefix(PREFIX), layer.get_base_layer()
        if not layer.supports_lora_conversion() or not isinstance(inner, (nn.Linear, Conv1D)):
            raise AdapterError(
                f"PEFT cannot turn module {name!r}, a {type(layer).__name__} around {type(inner).__name__}, into a LoRA",
                "train a LoRA, or an adapter of linear layers",
            )
        found[name] = layer
    if not found:
        raise AdapterError("PEFT found no module to convert", "name the base model that it was trained on")
    return found


def _factors(
    name: str, layer: Any, update: Float64[ndarray, "out in"], rank: int | float
) -> tuple[Shaped[ndarray, "out r"], Shaped[ndarray, "r in"]]:
    from peft import convert_to_lora

    largest = min(update.shape)
    if isinstance(rank, int) and rank > largest:
        raise AdapterError(f"rank {rank} is beyond the {largest} of module {name!r}", f"give at most {largest}")
    if rank == 1.0 and isinstance(rank, float):
        # PEFT adds squares up in float32 and so finds all of the energy before the last of it
        rank = max(1, int(np.linalg.matrix_rank(update, rtol=largest * np.finfo(np.float32).eps)))
    _, state = convert_to_lora(layer, rank)
    B, A = (state[f".lora_{side}.weight"].detach().float().cpu().numpy() for side in ("B", "A"))
    return np.ascontiguousarray(B), np.ascontiguousarray(A)


def _update(layer: Any) -> Float64[ndarray, "out in"]:
    """ΔW as PEFT adds it to the weight."""
    import torch
    from peft.tuners.miss.layer import MissLayer
    from transformers.pytorch_utils import Conv1D

    inner, is_miss = layer.get_base_layer(), isinstance(layer, MissLayer)
    with torch.no_grad():
        if is_miss:
            # alone among the types it needs the weight, and but for `bat` gives back the sum
            weight = inner.weight.detach().clone()
            whole = layer.miss_fn != "bat"
            made = layer.get_delta_weight_miss if whole else layer.get_delta_weight
            delta = made("default", torch.zeros_like(weight) if whole else weight)
        else:
            delta = layer.get_delta_weight("default")
    found: Float64[ndarray, "out in"] = delta.detach().double().cpu().numpy()
    return found.T if isinstance(inner, Conv1D) else found
