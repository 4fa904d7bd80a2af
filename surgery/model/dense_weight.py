"""The dense weight of a base layer that an adapter updates, dequantised where it is quantised, fetched where it is offloaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from numpy import ndarray

from surgery.errors import BaseModelError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from surgery.model.live_model import LiveModel

_BITSANDBYTES = ("Params4bit", "Int8Params")


def base_weight(source: "LiveModel | nn.Module", name: str) -> Float[ndarray, "out in"]:
    """The dense weight that module `name` of an adapter adapts, without its ΔW; float64 or else float32.

    Read-only, because it may be the model's own memory.

    From a live model, or from a base model with or without an adapter attached. GPT-2's transposed
    layers come the right way round. Raises `BaseModelError` for a module that does not exist, for
    layers that are not linear and for weights that cannot be read.
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
    if type(layer).__name__ != "Conv1D" and not (hasattr(layer, "in_features") and hasattr(layer, "out_features")):
        raise BaseModelError(
            f"{name!r} is a {type(layer).__name__}, whose weight is not compared", "choose a linear layer"
        )
    with weight_in_use(layer, name) as weight:
        dense: ndarray = weight.cpu().to(torch.promote_types(weight.dtype, torch.float32)).numpy()
    dense.setflags(write=False)
    return dense


@contextmanager
def weight_in_use(layer: "nn.Module", name: str) -> "Iterator[Float[Tensor, 'out in']]":
    """The weight W of a layer's output × input, on the device that it computes on, while the context lasts.

    layer: linear, transposed as in GPT-2, an embedding (dimension × vocabulary) or a convolution (`in` runs over
        channels × kernel); quantised, or offloaded by accelerate.
    name: of the module, for messages.

    Raises `BaseModelError` for a weight that is packed in a way which nothing here can read, and for one that is
    nowhere.
    """
    import torch
    from accelerate.utils import align_module_device

    with align_module_device(layer):
        weight = _dequantised(layer)
        if weight is None or weight.dim() < 2 or not weight.is_floating_point():
            raise BaseModelError(
                f"the weight of {name!r} is quantised ({type(layer).__name__}) in a way that cannot be read",
                "load the base model unquantised",
            )
        if weight.is_meta:
            raise BaseModelError(
                f"the weight of {name!r} is offloaded and not in memory", "load the base model onto one device"
            )
        weight = weight.detach()
        if type(layer).__name__ == "Conv1D" or isinstance(layer, torch.nn.Embedding):
            weight = weight.T
        yield weight.flatten(1)


def _dequantised(layer: Any) -> "Tensor | None":
    """The plain weight of a layer; None where no way to it is known."""
    import torch
    from peft.utils.integrations import dequantize_module_weight

    weight = getattr(layer, "weight", None)
    if type(weight) in (torch.Tensor, torch.nn.Parameter):
        return weight
    kind = type(weight)
    known = hasattr(layer, "W_q") or kind.__module__.startswith("torchao.") or kind.__name__ in _BITSANDBYTES
    if not known and not isinstance(weight, torch.Tensor):
        return None
    try:
        plain = dequantize_module_weight(layer) if known else weight.dequantize()  # type: ignore[union-attr]
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):
        return None
    return plain if type(plain) in (torch.Tensor, torch.nn.Parameter) else None
