"""The dense weight of a base layer that an adapter updates, dequantised where it is quantised."""

from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from numpy import ndarray

from surgery.errors import BaseModelError

if TYPE_CHECKING:
    from torch import nn

    from surgery.model.live_model import LiveModel


def base_weight(source: "LiveModel | nn.Module", name: str) -> Float[ndarray, "out in"]:
    """The dense weight that module `name` of an adapter adapts, without its ΔW; float64 or else float32.

    Read-only, because it may be the model's own memory.

    From a live model, or from a base model with or without an adapter attached. GPT-2's transposed
    layers come the right way round. Raises `BaseModelError` for a module that does not exist, for
    layers that are not linear and for quantised weights.
    """
    import torch

    from surgery.model.live_model import LiveModel
    from surgery.model.spectral_layers import SpectralLayer

    if isinstance(source, LiveModel):
        model, held = source.model, source.adapter.modules
        path = held[name].site.module if name in held else name
    else:
        model, path = source, name
    layer: Any = dict(model.named_modules()).get(path)
    if layer is None:
        raise BaseModelError(f"the base model has no module {name!r}", "name a module of the adapter")
    if isinstance(layer, SpectralLayer):
        layer = layer.base
    transposed = type(layer).__name__ == "Conv1D"
    weight: Any = getattr(layer, "weight", None)
    if not transposed and not (hasattr(layer, "in_features") and hasattr(layer, "out_features")):
        raise BaseModelError(
            f"{name!r} is a {type(layer).__name__}, whose weight is not compared", "choose a linear layer"
        )
    # quantisers pack the weight, subclass the tensor or both; a float dtype alone proves nothing
    plain = type(weight) in (torch.Tensor, torch.nn.Parameter) and weight.dim() == 2
    if not plain or weight.dtype not in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        raise BaseModelError(
            f"the weight of {name!r} is quantised ({type(layer).__name__})", "load the base model unquantised"
        )
    if weight.is_meta:
        raise BaseModelError(
            f"the weight of {name!r} is offloaded and not in memory", "load the base model onto one device"
        )
    dense = weight.detach().cpu().to(torch.promote_types(weight.dtype, torch.float32)).numpy()
    dense.setflags(write=False)
    return dense.T if transposed else dense
