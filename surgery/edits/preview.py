"""What theory says of an edit without a model: the first-order change of the loss, counts, norms."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.edits.edit import Edit
from surgery.sensitivity import Sensitivity


@dataclass(frozen=True)
class Preview:
    """Numbers of an edit that need no model: predicted change of the loss, counts, nuclear norm, functional energy.

    `predicted` is the first-order change of the mean calibration loss, Σ ḡₖ(σ′ₖ − σₖ), in nats per
    answer token; `standard_error` is over calibration examples. `nuclear_norm_ratio` is Σσ′/Σσ and
    `nuclear_norm_moved` the share of Σσ that changed place: half of Σ|σ′ − σ| over Σσ. `functional_energy_ratio`
    is Σσ′²q/Σσ²q = E‖ΔW′x‖²/E‖ΔWx‖² summed over the modules whose q is known, NaN where none is.
    """

    predicted: float
    standard_error: float
    raised: int
    lowered: int
    zeroed: int
    nuclear_norm_ratio: float
    nuclear_norm_moved: float
    functional_energy_ratio: float = float("nan")


def preview(edit: Edit, sensitivity: Sensitivity | None) -> Preview | None:
    """The preview numbers of `edit`; None when its modules were not measured."""
    if sensitivity is None or any(name not in sensitivity.values for name in edit.modules):
        return None
    moments = sensitivity.moments
    places = [moments.indices[name] for name in edit.modules]
    if [place.size for place in places] != [module.sigma.size for module in edit.modules.values()]:
        return None
    sigma, after = _end_to_end(edit)
    change = np.zeros(len(moments.g))
    change[np.concatenate(places)] = after - sigma
    # what stays adds nothing, even where its measurement is not finite
    moved = np.flatnonzero(change)
    per_example = change @ moments.g if moved.size == change.size else change[moved] @ moments.g[moved]
    n = per_example.size
    error = float(per_example.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    numbers = _preview(sigma, after, float(per_example.mean()), error)
    return replace(numbers, functional_energy_ratio=_energy_ratio(sigma, after, moments.q[np.concatenate(places)]))


def summary(edit: Edit) -> Preview:
    """The preview numbers that need no sensitivities; the prediction is NaN."""
    return _preview(*_end_to_end(edit), float("nan"), float("nan"))


def _energy_ratio(
    sigma: Float64[ndarray, " component"], after: Float64[ndarray, " component"], q: Float64[ndarray, " component"]
) -> float:
    """Σσ′²q/Σσ²q over the components whose q is known; NaN where no energy is."""
    seen = np.isfinite(q)
    root = np.sqrt(q[seen])
    before, now = np.linalg.norm(sigma[seen] * root), np.linalg.norm(after[seen] * root)
    return float((now / before) ** 2) if before > 0 else float("nan")


def _end_to_end(edit: Edit) -> tuple[Float64[ndarray, " component"], Float64[ndarray, " component"]]:
    """σ and σ′ of all modules of an edit."""
    modules = edit.modules.values()
    return np.concatenate([m.sigma for m in modules]), np.concatenate([m.sigma_after for m in modules])


def _preview(
    sigma: Float64[ndarray, " component"], after: Float64[ndarray, " component"], predicted: float, error: float
) -> Preview:
    alive = sigma > 0
    total = sigma.sum() or 1.0
    return Preview(
        predicted=predicted,
        standard_error=error,
        raised=int((after[alive] > sigma[alive] * (1 + 1e-9)).sum()),
        lowered=int((after[alive] < sigma[alive] * (1 - 1e-9)).sum()),
        zeroed=int((after[alive] == 0).sum()),
        nuclear_norm_ratio=float(after.sum() / total),
        nuclear_norm_moved=float(np.abs(after - sigma).sum() / 2 / total),
    )
