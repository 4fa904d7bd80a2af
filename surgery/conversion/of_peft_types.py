"""LoHa, LoKr, VeRA and what else PEFT can turn into a LoRA, module by module through its own conversion."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.conversion.errors_of_updates import error_of_dense
from surgery.conversion.lora_folder import PREFIX, Lora, plain_config
from surgery.conversion.plan import UpdateError
from surgery.conversion.with_peft import Tensors
from surgery.errors import AdapterError
from surgery.progress import Control

if TYPE_CHECKING:
    from peft import PeftModel

# the types whose update is a ΔW added to the base weight, and whose layers PEFT says it can convert
CONVERTIBLE = (
    "C3A",
    "DELORA",
    "FOURIERFT",
    "GRALORA",
    "LOHA",
    "LOKR",
    "MISS",
    "PSOFT",
    "RANDLORA",
    "TINYLORA",
    "UNILORA",
    "VBLORA",
    "VERA",
    "WAVEFT",
)


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
        B, A = _factors(name, layer, rank)
        found |= {f"{PREFIX}{name}.lora_A.weight": A, f"{PREFIX}{name}.lora_B.weight": B}
        modules[name] = error_of_dense(_update(layer), (1.0, B, A))
        ranks = {each: module.rank for each, module in modules.items()}
    control.progress(len(layers), len(layers))
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


def _factors(name: str, layer: Any, rank: int | float) -> tuple[np.ndarray, np.ndarray]:
    from peft import convert_to_lora

    largest = min(layer.get_base_layer().weight.shape)
    if isinstance(rank, int) and rank > largest:
        raise AdapterError(f"rank {rank} is beyond the {largest} of module {name!r}", f"give at most {largest}")
    _, state = convert_to_lora(layer, rank)
    B, A = (state[f".lora_{side}.weight"].detach().float().cpu().numpy() for side in ("B", "A"))
    return np.ascontiguousarray(B), np.ascontiguousarray(A)


def _update(layer: Any) -> np.ndarray:
    """ΔW (out, in) as PEFT adds it to the weight."""
    import torch
    from transformers.pytorch_utils import Conv1D

    with torch.no_grad():
        delta = layer.get_delta_weight("default").detach().double().cpu().numpy()
    found: np.ndarray = delta.T if isinstance(layer.get_base_layer(), Conv1D) else delta
    return found
