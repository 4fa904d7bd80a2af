"""Put an adapter's update around a layer of the base model, where the two fit."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from surgery.adapter import ConvSite, EmbeddingSite, FlatSite, ParameterSite, Site
from surgery.errors import BaseModelError
from surgery.model.device_map import execution_device, is_offloaded
from surgery.model.spectral_layers import (
    Components,
    SpectralConv,
    SpectralEmbedding,
    SpectralLayer,
    SpectralLinear,
    SpectralParameters,
    is_transposed,
)
from surgery.model.weight_norm import WeightNorm
from surgery.spectra import Spectrum

_COMPUTE = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def wrap(
    base: nn.Module,
    sites: Sequence[Site],
    spectra: Sequence[Spectrum],
    fallback: torch.dtype,
    *,
    bias: Tensor | None = None,
    magnitude: Tensor | None = None,
) -> tuple[SpectralLayer, list[Components]]:
    """The wrapped layer for the updates on one module, and their components in the order given.

    base: the module.
    sites: of its updates.
    spectra: of the updates.
    fallback: dtype in which a layer without plain weights computes.
    bias: the update's, scaled, of a LoRA trained with `lora_bias`.
    magnitude: of every output, of an adapter trained with DoRA.

    Raises `BaseModelError` when the layer is of another kind or shape than the adapter was trained on.
    """
    site, spectrum = sites[0], spectra[0]
    weight = getattr(base, site.parameter if isinstance(site, ParameterSite) else "weight", None)
    device, dtype = _place(base, weight, fallback)
    components = [Components(spectrum, device, dtype) for spectrum in spectra]
    if isinstance(site, ParameterSite):
        return _wrap_parameters(base, sites, spectra, components), components
    if isinstance(site, FlatSite) and isinstance(base, nn.Conv2d):
        site = ConvSite(site.module, (base.in_channels, *base.kernel_size))
    shape = _shape(base, site)
    wanted = spectrum.shape
    if shape != wanted:
        found = f"{shape[0]} × {shape[1]}" if shape else type(base).__name__
        raise BaseModelError(
            f"module {spectrum.name!r} is {found} in the base model, but the adapter was trained on "
            f"{wanted[0]} × {wanted[1]}",
            "name the base model this adapter was trained on",
        )
    parts = components[0]
    norm = None if magnitude is None else WeightNorm(base, spectrum, magnitude, like=parts.sigma)
    if isinstance(site, EmbeddingSite):
        return SpectralEmbedding(base, parts, norm), components
    if bias is not None:
        bias = bias.to(device, dtype)
    if isinstance(site, ConvSite):
        return SpectralConv(base, parts, bias, site, norm), components
    return SpectralLinear(base, parts, bias, norm), components


def _wrap_parameters(
    base: nn.Module, sites: Sequence[Site], spectra: Sequence[Spectrum], components: Sequence[Components]
) -> SpectralParameters:
    if is_offloaded(base):
        raise BaseModelError(
            f"module {spectra[0].name!r} keeps its experts' weights in host memory or on disk",
            "give the devices more memory: these are updated where they are",
        )
    stacks: dict[str, list[Components]] = {}
    for site, spectrum, parts in zip(sites, spectra, components, strict=True):
        assert isinstance(site, ParameterSite)
        _check_parameter(base, site, spectrum)
        stacks.setdefault(site.parameter, []).append(parts)
    return SpectralParameters(base, stacks)


def _shape(base: nn.Module, site: Site) -> tuple[int, int] | None:
    """(out, in) of a layer as its kind of update sees it; None for a layer of another kind."""
    if isinstance(site, EmbeddingSite):
        return _embedding_shape(base)
    return _conv_shape(base, site) if isinstance(site, ConvSite) else _linear_shape(base)


def _linear_shape(layer: Any) -> tuple[int, int] | None:
    """(out, in) features of a linear layer, quantised or GPT-2's transposed one; None for other layers."""
    if hasattr(layer, "in_features") and hasattr(layer, "out_features"):
        return int(layer.out_features), int(layer.in_features)
    if type(layer).__name__ == "Conv1D" and hasattr(layer, "weight"):
        return int(layer.weight.shape[1]), int(layer.weight.shape[0])
    return None


def is_adaptable(layer: nn.Module) -> bool:
    """Whether PEFT's LoRA could adapt this layer by its kind."""
    return _linear_shape(layer) is not None or isinstance(layer, (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d))


def _embedding_shape(layer: nn.Module) -> tuple[int, int] | None:
    return (layer.embedding_dim, layer.num_embeddings) if isinstance(layer, nn.Embedding) else None


def _conv_shape(layer: nn.Module, site: ConvSite) -> tuple[int, int] | None:
    if not isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return None
    if layer.groups != 1 or layer.padding_mode != "zeros" or set(layer.dilation) != {1}:
        raise BaseModelError(
            f"{type(layer).__name__} with {layer.groups} groups, {layer.padding_mode} padding and dilation "
            f"{layer.dilation} does not compute what its merged update would",
            "edit and export work; calibrate adapters on plain convolutions",
        )
    inside = 1
    for extent in site.kernel:
        inside *= extent
    same = (layer.in_channels, *layer.kernel_size) == site.kernel
    return (layer.out_channels, inside if same else -1)


def _check_parameter(base: nn.Module, site: Site, spectrum: Spectrum) -> None:
    assert isinstance(site, ParameterSite)
    parameter = getattr(base, site.parameter, None)
    shape = tuple(parameter.shape) if isinstance(parameter, Tensor) else None
    update = spectrum.shape
    count = (site.experts,) if shape and len(shape) == 3 else ()
    transposed = shape is not None and is_transposed(base, parameter)
    if shape is None or shape != (*count, *(update[::-1] if transposed else update)):
        raise BaseModelError(
            f"parameter {site.parameter!r} of {site.module!r} is {shape} in the base model, but the adapter was "
            f"trained on {site.experts} × {update}",
            "name the base model this adapter was trained on",
        )


def _place(layer: nn.Module, weight: Any, fallback: torch.dtype) -> tuple[torch.device, torch.dtype]:
    """Device and compute dtype of a layer; one without plain weights computes in the model's own dtype."""
    device = execution_device(layer)
    dtype = getattr(weight, "dtype", None)
    return device, dtype if dtype in _COMPUTE else fallback
