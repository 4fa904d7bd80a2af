"""The adapter inside the running model: y = base(x) + ((x V) ∘ σ) Uᵀ in place of every target.

σ may be replaced at any time, and may carry a leading row axis so that the rows of one batch
belong to different variants. A zero perturbation e of shape (rows, rank) added to σ makes ∂loss/∂e
the per-example sensitivities gₖ = uₖᵀ G vₖ of a whole batch in one backward pass (paper Eq. 4).
"""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy import ndarray
from torch import Tensor, nn

from surgery.adapter import Adapter
from surgery.base import LoadedBase
from surgery.errors import AdapterError, BaseModelError, PolicyError
from surgery.spectrum import Spectra, Spectrum


class SpectralLinear(nn.Module):
    """A base layer with its update in spectral form; the base layer is wrapped, not changed."""

    U: Tensor
    V: Tensor
    sigma: Tensor

    def __init__(self, base: nn.Module, spectrum: Spectrum, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.base = base
        self.register_buffer("U", torch.as_tensor(spectrum.U).to(device, dtype), persistent=False)
        self.register_buffer("V", torch.as_tensor(spectrum.V).to(device, dtype), persistent=False)
        precise = torch.promote_types(dtype, torch.float32)
        self.register_buffer("sigma", torch.as_tensor(spectrum.sigma).to(device, precise), persistent=False)
        self.perturbation: Tensor | None = None

    def forward(self, x: Float[Tensor, "*row token in"]) -> Float[Tensor, "*row token out"]:
        weight = self.sigma if self.perturbation is None else self.sigma + self.perturbation
        if weight.dim() == 2:
            if x.dim() != 3 or x.shape[0] != weight.shape[0]:
                raise BaseModelError(
                    f"{weight.shape[0]} rows of σ met an input of shape {tuple(x.shape)}",
                    "edit only modules that see whole (row, token, feature) batches",
                )
            weight = weight[:, None, :]
        # σ and e are never half precision, so neither is the sum of ∂loss/∂e over tokens
        strength = (x.to(self.V.dtype) @ self.V).to(weight.dtype) * weight
        update = strength.to(self.U.dtype) @ self.U.T
        base: Tensor = self.base(x)
        return base + update.to(base.dtype)


class LiveModel:
    """An adapter attached to a base model in spectral form, until `close`.

    Raises `BaseModelError` when a module is missing or shaped differently, and `AdapterError` when
    the file holds trained tensors that are not LoRA factors: a model without them would mislead.
    One thread at a time.
    """

    def __init__(self, base: LoadedBase, adapter: Adapter, spectra: Spectra) -> None:
        if adapter.extra:
            raise AdapterError(
                f"the file also holds {len(adapter.extra)} trained tensors such as {adapter.extra[0]!r}, "
                "which the running model would lack",
                "edit and export work; to calibrate, use an adapter with LoRA factors only",
            )
        if any(isinstance(module, SpectralLinear) for module in base.model.modules()):
            raise BaseModelError("another adapter is attached to this base model", "close it first")
        self.base = base
        self.adapter = adapter
        self.spectra = spectra
        self._layers: dict[str, SpectralLinear] = {}
        targets = {name: _target(base.model, name, spectrum) for name, spectrum in spectra.items()}
        parameter = next(base.model.parameters())
        for name, layer in targets.items():
            wrapped = SpectralLinear(layer, spectra[name], parameter.device, parameter.dtype)
            _replace(base.model, name, wrapped.train(base.model.training))
            self._layers[name] = wrapped

    def __enter__(self) -> "LiveModel":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def model(self) -> Any:
        return self.base.model

    @property
    def device(self) -> torch.device:
        return next(self.base.model.parameters()).device

    def set_sigma(self, values: Mapping[str, Float64[ndarray, "*row rank"]] | None = None) -> None:
        """Put new σ into the named modules and the adapter's own σ into all others."""
        values = values or {}
        for name, sigma in values.items():
            if name not in self._layers or np.shape(sigma)[-1:] != self.spectra[name].sigma.shape:
                raise PolicyError(
                    f"σ of shape {np.shape(sigma)} for module {name!r} does not fit this adapter",
                    "use an edit of the adapter that is attached",
                )
        for name, layer in self._layers.items():
            chosen = values.get(name, self.spectra[name].sigma)
            layer.sigma = torch.as_tensor(np.asarray(chosen)).to(layer.sigma)

    def perturb(self, names: Iterable[str], rows: int) -> dict[str, Float[Tensor, "row rank"]]:
        """Add a fresh zero perturbation that requires grad to the named modules, and return them."""
        perturbations = {}
        for name in names:
            layer = self._layers[name]
            layer.perturbation = torch.zeros(
                rows, layer.sigma.shape[-1], dtype=layer.sigma.dtype, device=layer.U.device, requires_grad=True
            )
            perturbations[name] = layer.perturbation
        return perturbations

    def unperturb(self) -> None:
        for layer in self._layers.values():
            layer.perturbation = None

    def close(self) -> None:
        """Put the base layers back; the base model is as it was before."""
        for name, layer in self._layers.items():
            _replace(self.base.model, name, layer.base)
        self._layers = {}


def _target(model: nn.Module, name: str, spectrum: Spectrum) -> nn.Module:
    try:
        layer = model.get_submodule(name)
    except AttributeError:
        raise BaseModelError(
            f"the base model has no module {name!r}", "name the base model this adapter was trained on"
        ) from None
    shape = _out_in(layer)
    wanted = (spectrum.U.shape[0], spectrum.V.shape[0])
    if shape != wanted:
        found = f"{shape[0]} × {shape[1]}" if shape else type(layer).__name__
        raise BaseModelError(
            f"module {name!r} is {found} in the base model, but the adapter was trained on "
            f"{wanted[0]} × {wanted[1]}",
            "name the base model this adapter was trained on",
        )
    return layer


def _out_in(layer: Any) -> tuple[int, int] | None:
    """(out, in) features of a linear layer, also for GPT-2's transposed Conv1D."""
    if hasattr(layer, "in_features") and hasattr(layer, "out_features"):
        return int(layer.out_features), int(layer.in_features)
    if type(layer).__name__ == "Conv1D" and hasattr(layer, "weight"):
        return int(layer.weight.shape[1]), int(layer.weight.shape[0])
    return None


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
