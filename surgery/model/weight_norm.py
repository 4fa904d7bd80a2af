"""DoRA's scaling of a layer's outputs, y = (m / n(σ))·(W x + ΔW x) + bias, with the norm n a function of σ.

n_i is the Euclidean norm of row i of W + U·diag(σ)·Vᵀ. V is orthonormal, so around the adapter's own σ₀

    n_i(σ)² = n_i(σ₀)² + 2 Σₖ (σₖ − σ₀ₖ) U_ik (W V + U·diag(σ₀))_ik + Σₖ (σₖ − σ₀ₖ)² U_ik²

and three small tables, made from the dense W once, give it for the σ of every row of a batch. PEFT takes the norm
as a constant in training (Liu et al., 2024, §4.3) but makes it anew from the factors that it loads; ∂loss/∂σ here has
the norm's own derivative in it, because it is the derivative of what an export computes.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from surgery.errors import BaseModelError
from surgery.model.dense_weight import weight_in_use
from surgery.spectra import Spectrum

_CHUNK = 1 << 24  # numbers of W that are in float64 at a time


class WeightNorm(nn.Module):
    """m / n(σ) of every output of a layer, and the layer's bias, which DoRA leaves out of the scaling."""

    magnitude: Tensor
    own: Tensor
    square: Tensor
    slope: Tensor
    curvature: Tensor
    bias: Tensor | None

    def __init__(
        self, base: nn.Module, spectrum: Spectrum, magnitude: Float[Tensor, " out"], like: Tensor
    ) -> None:
        """The tables, on the device and in the dtype of `like`; raises `BaseModelError` as `weight_in_use` does."""
        super().__init__()
        with weight_in_use(base, spectrum.name) as weight:
            tables = _tables(weight, spectrum)
            bias = getattr(base, "bias", None)
            bias = None if bias is None else bias.detach().clone().to(like)
        if not (tables[0] > 0).all():
            raise BaseModelError(
                f"module {spectrum.name!r} has outputs whose weights are all zero, and DoRA divides by their norm",
                "name the base model this adapter was trained on",
            )
        self.register_buffer("magnitude", magnitude.to(like), persistent=False)
        self.register_buffer("own", torch.as_tensor(spectrum.sigma).to(like), persistent=False)
        for name, table in zip(("square", "slope", "curvature"), tables, strict=True):
            self.register_buffer(name, table.to(like), persistent=False)
        self.register_buffer("bias", bias, persistent=False)

    def factor(self, strength: Float[Tensor, "*row rank"]) -> Float[Tensor, "*row out"]:
        """m / n(σ); its derivative is exact at the adapter's own σ, where no difference is taken."""
        moved = strength - self.own
        square = self.square + moved @ self.slope + moved**2 @ self.curvature
        scaled: Tensor = self.magnitude / square.clamp_min(0).sqrt()
        return scaled

    def scale(
        self,
        base: Float[Tensor, "row *place out"],
        update: Float[Tensor, "row *place out"],
        strength: Float[Tensor, "*row rank"],
    ) -> Float[Tensor, "row *place out"]:
        """(m / n(σ))·(W x + ΔW x) + bias, from `base` = W x + bias and `update` = ΔW x."""
        factor = self.factor(strength)
        if factor.dim() == 2:
            factor = factor.view(len(factor), *[1] * (base.dim() - 2), -1)
        if self.bias is None:
            scaled = factor * (base.to(factor.dtype) + update)
        else:
            scaled = factor * (base.to(factor.dtype) - self.bias + update) + self.bias
        return scaled.to(base.dtype)


def _tables(weight: Float[Tensor, "out in"], spectrum: Spectrum) -> tuple[Tensor, Tensor, Tensor]:
    """n(σ₀)² of (out), and the slopes and curvatures of (rank, out), in float64 where the device has it."""
    exact = torch.float32 if weight.device.type == "mps" else torch.float64
    U, sigma, V = (
        torch.as_tensor(part).to(weight.device, exact) for part in (spectrum.U, spectrum.sigma, spectrum.V)
    )
    parts = [((rows**2).sum(1), rows @ V) for rows in _rows(weight, exact)]
    squares, projected = (torch.cat(part) for part in zip(*parts, strict=True))
    square = squares + (sigma * U * (2 * projected + sigma * U)).sum(1)
    return square, (2 * U * (projected + sigma * U)).T, (U**2).T


def _rows(weight: Float[Tensor, "out in"], dtype: torch.dtype) -> Iterator[Float[Tensor, "some in"]]:
    for rows in weight.split(max(1, _CHUNK // weight.shape[1])):
        yield rows.to(dtype)
