"""Layers of a base model with their update in spectral form: y = base(x) + ((x V) ∘ σ) Uᵀ.

The base layer is wrapped, not changed, so a quantised one works as well. σ may carry a leading row
axis, so that the rows of one batch belong to different variants; a perturbation is added to it.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from surgery.adapter import ConvSite, EmbeddingSite, ParameterSite, Site
from surgery.errors import BaseModelError, RowsMixedError
from surgery.model.device_map import execution_device, is_offloaded
from surgery.spectra import Spectrum

_COMPUTE = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


class Components(nn.Module):
    """U, σ and V of one update on the device and in the compute dtype of the layer they belong to.

    σ and its perturbation are float32 or better, so the sum of ∂loss/∂e over tokens is too.
    """

    U: Tensor
    V: Tensor
    sigma: Tensor

    def __init__(self, spectrum: Spectrum, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("U", torch.as_tensor(spectrum.U).to(device, dtype), persistent=False)
        self.register_buffer("V", torch.as_tensor(spectrum.V).to(device, dtype), persistent=False)
        precise = torch.promote_types(dtype, torch.float32)
        self.register_buffer("sigma", torch.as_tensor(spectrum.sigma).to(device, precise), persistent=False)
        self.perturbation: Tensor | None = None

    @property
    def strength(self) -> Float[Tensor, "*row rank"]:
        return self.sigma if self.perturbation is None else self.sigma + self.perturbation

    def weigh(self, projected: Float[Tensor, "row *place rank"]) -> Float[Tensor, "row *place rank"]:
        """(x V) ∘ σ; a σ with rows needs as many rows of x."""
        strength = self.strength
        if strength.dim() == 2 and strength.shape[0] == 1:
            strength = strength[0]
        elif strength.dim() == 2:
            if projected.dim() < 3 or projected.shape[0] != strength.shape[0]:
                raise RowsMixedError(
                    f"{strength.shape[0]} rows of σ met an input of shape {tuple(projected.shape)}",
                    "use one example a batch: this layer does not see whole (row, token, feature) batches",
                )
            strength = strength.view(strength.shape[0], *[1] * (projected.dim() - 2), -1)
        return (projected.to(strength.dtype) * strength).to(self.U.dtype)


class SpectralLayer(nn.Module):
    """What all wrapped layers share; anything asked of it that it lacks is the base layer's."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def __getattr__(self, name: str) -> Any:
        # models read such things as `layer.weight.dtype` off their own layers
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)


class SpectralLinear(SpectralLayer):
    """A linear layer; `bias` is the scaled bias of a LoRA trained with `lora_bias`."""

    def __init__(self, base: nn.Module, components: Components, bias: Tensor | None) -> None:
        super().__init__(base)
        self.components = components
        self.register_buffer("bias_update", bias, persistent=False)

    def forward(self, x: Float[Tensor, "row *token in"]) -> Float[Tensor, "row *token out"]:
        parts = self.components
        update = parts.weigh(x.to(parts.V.dtype) @ parts.V) @ parts.U.T
        if self.bias_update is not None:
            update = update + self.bias_update
        base: Tensor = self.base(x)
        return base + update.to(base.dtype)


class SpectralEmbedding(SpectralLayer):
    """An embedding table; models that scale their embeddings scale the update alike."""

    def __init__(self, base: nn.Module, components: Components) -> None:
        super().__init__(base)
        self.components = components

    def forward(self, ids: Tensor) -> Float[Tensor, "row token out"]:
        parts = self.components
        update = parts.weigh(nn.functional.embedding(ids, parts.V)) @ parts.U.T
        scale = getattr(self.base, "embed_scale", None)
        if scale is not None:
            update = update * torch.as_tensor(scale).to(update)
        base: Tensor = self.base(ids)
        return base + update.to(base.dtype)


class SpectralConv(SpectralLayer):
    """A convolution with one group: V as kernels into the components, U as one point per channel."""

    def __init__(self, base: nn.Module, components: Components, bias: Tensor | None, site: ConvSite) -> None:
        super().__init__(base)
        self.components = components
        self.register_buffer("bias_update", bias, persistent=False)
        self._kernel = site.kernel
        self._convolve: Any = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)[
            len(site.kernel) - 2
        ]

    def forward(self, x: Float[Tensor, "row channel *place"]) -> Float[Tensor, "row out *place_out"]:
        parts, layer = self.components, self.base
        kernel = parts.V.T.reshape(-1, *self._kernel)
        projected = self._convolve(x.to(kernel.dtype), kernel, stride=layer.stride, padding=layer.padding)
        update = parts.weigh(projected.movedim(1, -1)) @ parts.U.T
        if self.bias_update is not None:
            update = update + self.bias_update
        base: Tensor = layer(x)
        return base + update.movedim(-1, 1).to(base.dtype)


class SpectralParameters(SpectralLayer):
    """A module with updates on raw parameters, such as the stacked weights of its experts.

    Its tokens come sorted by expert, not by row, so σ has no row axis here: the dense updates are
    added to the parameters, as PEFT does, and a perturbation belongs to a batch of one example.
    """

    def __init__(self, base: nn.Module, experts: dict[str, list[Components]]) -> None:
        super().__init__(base)
        self.experts_of = experts
        self.components = nn.ModuleList([parts for stack in experts.values() for parts in stack])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        updated = {name: self._updated(name, stack) for name, stack in self.experts_of.items()}
        return torch.func.functional_call(self.base, updated, args, kwargs)

    def _updated(self, name: str, stack: Sequence[Components]) -> Tensor:
        parameter: Tensor = getattr(self.base, name)
        updates = [_dense(parts) for parts in stack]
        update = updates[0] if parameter.dim() == 2 else torch.stack(updates)
        if _is_transposed(self.base, parameter):
            update = update.transpose(-2, -1)
        return parameter + update.to(parameter.dtype)


def _dense(parts: Components) -> Float[Tensor, "out in"]:
    strength = parts.strength
    if strength.dim() == 2:
        if strength.shape[0] != 1:
            raise RowsMixedError(
                f"{strength.shape[0]} rows of σ met the shared weights of experts", "use one example a batch"
            )
        strength = strength[0]
    return (parts.U.to(strength.dtype) * strength) @ parts.V.to(strength.dtype).T


def wrap(
    base: nn.Module, sites: Sequence[Site], spectra: Sequence[Spectrum], bias: Tensor | None, fallback: torch.dtype
) -> tuple[SpectralLayer, list[Components]]:
    """The wrapped layer for the updates on one module, and their components in the order given.

    Raises `BaseModelError` when the layer is of another kind or shape than the adapter was trained on.
    """
    site, spectrum = sites[0], spectra[0]
    weight = getattr(base, site.parameter if isinstance(site, ParameterSite) else "weight", None)
    device, dtype = _place(base, weight, fallback)
    components = [Components(spectrum, device, dtype) for spectrum in spectra]
    if bias is not None:
        bias = bias.to(device, dtype)
    wrapped: SpectralLayer
    if isinstance(site, ParameterSite):
        if is_offloaded(base):
            raise BaseModelError(
                f"module {spectrum.name!r} keeps its experts' weights in host memory or on disk",
                "give the devices more memory: these are updated where they are",
            )
        stacks: dict[str, list[Components]] = {}
        for each, parts in zip(sites, components, strict=True):
            assert isinstance(each, ParameterSite)
            stacks.setdefault(each.parameter, []).append(parts)
        for each, its_spectrum in zip(sites, spectra, strict=True):
            _check_parameter(base, each, its_spectrum)
        return SpectralParameters(base, stacks), components
    wanted = spectrum.shape
    if isinstance(site, EmbeddingSite):
        shape = _embedding_shape(base)
        wrapped = SpectralEmbedding(base, components[0])
    elif isinstance(site, ConvSite):
        shape = _conv_shape(base, site)
        wrapped = SpectralConv(base, components[0], bias, site)
    else:
        shape = _linear_shape(base)
        wrapped = SpectralLinear(base, components[0], bias)
    if shape != wanted:
        found = f"{shape[0]} × {shape[1]}" if shape else type(base).__name__
        raise BaseModelError(
            f"module {spectrum.name!r} is {found} in the base model, but the adapter was trained on "
            f"{wanted[0]} × {wanted[1]}",
            "name the base model this adapter was trained on",
        )
    return wrapped, components


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


def _is_transposed(base: nn.Module, parameter: Any) -> bool:
    """Whether the experts of a module are stored as (expert, in, out), which it says of itself."""
    return parameter.dim() == 3 and bool(getattr(base, "is_transposed", False))


def _check_parameter(base: nn.Module, site: Site, spectrum: Spectrum) -> None:
    assert isinstance(site, ParameterSite)
    parameter = getattr(base, site.parameter, None)
    shape = tuple(parameter.shape) if isinstance(parameter, Tensor) else None
    update = spectrum.shape
    count = (site.experts,) if shape and len(shape) == 3 else ()
    transposed = shape is not None and _is_transposed(base, parameter)
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
