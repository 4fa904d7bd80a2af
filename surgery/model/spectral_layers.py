"""Layers of a base model with their update in spectral form: y = base(x) + ((x V) ∘ σ) Uᵀ.

The base layer is wrapped, not changed, so a quantised one works as well. σ may carry a leading row
axis, so that the rows of one batch belong to different variants; a perturbation is added to it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from surgery.adapter import ConvSite
from surgery.errors import RowsMixedError
from surgery.model.weight_norm import WeightNorm
from surgery.spectra import Spectrum

Watch = Callable[[Tensor, Tensor], None]


class Components(nn.Module):
    """U, σ and V of one update on the device and in the compute dtype of the layer they belong to.

    σ and its perturbation are float32 or better, so the sum of ∂loss/∂e over tokens is too. `watch` is shown x V and x
    whenever the layer runs. Where `spread` is a list, the perturbation is a new zero for every place of every run, and
    joins the list: its gradient tells the places apart, and its sum over them is that of one perturbation.
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
        self.watch: Watch | None = None
        self.spread: list[Tensor] | None = None

    def perturb(self, rows: int) -> Float[Tensor, "row rank"]:
        """A fresh zero perturbation of every row, which requires grad."""
        shape = rows, self.sigma.shape[-1]
        self.perturbation = torch.zeros(
            shape, dtype=self.sigma.dtype, device=self.sigma.device, requires_grad=True
        )
        return self.perturbation

    def perturb_places(self) -> list[Tensor]:
        """The list that fresh zero perturbations of every place join, one in each run; see `spread`."""
        self.spread = []
        return self.spread

    def unperturb(self) -> None:
        self.perturbation = self.spread = None

    @property
    def strength(self) -> Float[Tensor, "*row rank"]:
        return self.sigma if self.perturbation is None else self.sigma + self.perturbation

    def weigh(
        self, projected: Float[Tensor, "row *place rank"], entered: Tensor
    ) -> Float[Tensor, "row *place rank"]:
        """(x V) ∘ σ of x V, where x is what `entered` the layer; a σ with rows needs as many rows of x."""
        if self.watch is not None:
            self.watch(projected, entered)
        if self.spread is not None:
            return self._spread_out(projected, self.spread)
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

    def _spread_out(
        self, projected: Float[Tensor, "*place rank"], runs: list[Tensor]
    ) -> Float[Tensor, "*place rank"]:
        self.perturbation = torch.zeros_like(projected, dtype=self.sigma.dtype).requires_grad_()
        runs.append(self.perturbation)
        return (projected.to(self.sigma.dtype) * self.strength).to(self.U.dtype)


class SpectralLayer(nn.Module):
    """What all wrapped layers share; anything asked of it that it lacks is the base layer's.

    `norm` is that of a layer trained with DoRA.
    """

    def __init__(self, base: nn.Module, norm: WeightNorm | None = None) -> None:
        super().__init__()
        self.base = base
        self.norm = norm

    def _output(self, base: Tensor, update: Tensor, parts: Components) -> Float[Tensor, "row *place out"]:
        """The layer's output from the base layer's and the update's; features come last."""
        if self.norm is not None:
            return self.norm.scale(base, update, parts.strength)
        return base + update.to(base.dtype)

    def project(self, x: Tensor, directions: Float[Tensor, "in direction"]) -> Float[Tensor, "*place direction"]:
        """x along directions of the layer's input space, place by place."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        # models read such things as `layer.weight.dtype` off their own layers
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("base"), name)


class SpectralLinear(SpectralLayer):
    """A linear layer; `bias` is the scaled bias of a LoRA trained with `lora_bias`."""

    def __init__(
        self, base: nn.Module, components: Components, bias: Tensor | None, norm: WeightNorm | None
    ) -> None:
        super().__init__(base, norm)
        self.components = components
        self.register_buffer("bias_update", bias, persistent=False)

    def forward(self, x: Float[Tensor, "row *token in"]) -> Float[Tensor, "row *token out"]:
        parts = self.components
        update = parts.weigh(self.project(x, parts.V), x) @ parts.U.T
        if self.bias_update is not None:
            update = update + self.bias_update
        return self._output(self.base(x), update, parts)

    def project(self, x: Tensor, directions: Float[Tensor, "in direction"]) -> Float[Tensor, "*place direction"]:
        return x.to(directions.dtype) @ directions


class SpectralEmbedding(SpectralLayer):
    """An embedding table; models that scale their embeddings scale the update alike."""

    def __init__(self, base: nn.Module, components: Components, norm: WeightNorm | None) -> None:
        super().__init__(base, norm)
        self.components = components

    def forward(self, ids: Tensor) -> Float[Tensor, "row token out"]:
        parts = self.components
        update = parts.weigh(self.project(ids, parts.V), ids) @ parts.U.T
        scale = getattr(self.base, "embed_scale", None)
        if scale is not None:
            update = update * torch.as_tensor(scale).to(update)
        return self._output(self.base(ids), update, parts)

    def project(self, x: Tensor, directions: Float[Tensor, "in direction"]) -> Float[Tensor, "*place direction"]:
        return nn.functional.embedding(x, directions)


class SpectralConv(SpectralLayer):
    """A convolution with one group: V as kernels into the components, U as one point per channel."""

    def __init__(
        self,
        base: nn.Module,
        components: Components,
        bias: Tensor | None,
        site: ConvSite,
        norm: WeightNorm | None,
    ) -> None:
        super().__init__(base, norm)
        self.components = components
        self.register_buffer("bias_update", bias, persistent=False)
        self._kernel = site.kernel
        self._convolve: Any = (nn.functional.conv1d, nn.functional.conv2d, nn.functional.conv3d)[
            len(site.kernel) - 2
        ]

    def forward(self, x: Float[Tensor, "row channel *place"]) -> Float[Tensor, "row out *place_out"]:
        parts, layer = self.components, self.base
        update = parts.weigh(self.project(x, parts.V), x) @ parts.U.T
        if self.bias_update is not None:
            update = update + self.bias_update
        base: Tensor = layer(x)
        return self._output(base.movedim(1, -1), update, parts).movedim(-1, 1)

    def project(self, x: Tensor, directions: Float[Tensor, "in direction"]) -> Float[Tensor, "*place direction"]:
        kernel, layer = directions.T.reshape(-1, *self._kernel), self.base
        found: Tensor = self._convolve(x.to(kernel.dtype), kernel, stride=layer.stride, padding=layer.padding)
        return found.movedim(1, -1)


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
        if is_transposed(self.base, parameter):
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


def is_transposed(base: nn.Module, parameter: Any) -> bool:
    """Whether the experts of a module are stored as (expert, in, out), which it says of itself."""
    return parameter.dim() == 3 and bool(getattr(base, "is_transposed", False))
