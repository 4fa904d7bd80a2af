"""What a cut keeps of an adapter: of every module and in sum."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from surgery.edits.edit import Edit
from surgery.sensitivity import Sensitivity
from surgery.spectra import null_components


@dataclass(frozen=True)
class Kept:
    """What is left of one module, or of all: components kept of `rank`, and shares of what they carry.

    `energy` is the share of Σσ², `functional` that of Σσ²q = E‖ΔWx‖², NaN where q was not measured.
    """

    rank: int
    kept: int
    energy: float
    functional: float


def kept_of(edit: Edit, sensitivity: Sensitivity | None) -> dict[str, Kept]:
    """What an edit leaves of each module in its scope; a component is kept where σ′ is above zero and rounding."""
    q = _q(edit, sensitivity)
    found = {}
    for name, module in edit.modules.items():
        live = (module.sigma_after > 0) & ~null_components(module.sigma)
        energy = (module.sigma / (module.sigma.max() or 1.0)) ** 2
        shares = (_share(energy, live), _share(energy * q[name], live))
        found[name] = Kept(module.sigma.size, int(live.sum()), *shares)
    return found


def kept_in_sum(edit: Edit, sensitivity: Sensitivity | None) -> Kept:
    """The same of all modules in scope together; `functional` sums over those whose q is known."""
    q = _q(edit, sensitivity)
    modules = edit.modules
    sigma = np.concatenate([module.sigma for module in modules.values()])
    live = np.concatenate([(m.sigma_after > 0) & ~null_components(m.sigma) for m in modules.values()])
    energy, weights = (sigma / (sigma.max() or 1.0)) ** 2, np.concatenate([q[name] for name in modules])
    seen = np.isfinite(weights)
    functional = _share(energy[seen] * weights[seen], live[seen]) if seen.any() else float("nan")
    return Kept(sigma.size, int(live.sum()), _share(energy, live), functional)


def _q(edit: Edit, sensitivity: Sensitivity | None) -> Mapping[str, np.ndarray]:
    unknown = {name: np.full(module.sigma.size, np.nan) for name, module in edit.modules.items()}
    if sensitivity is None:
        return unknown
    moments = sensitivity.moments
    known = {name: moments.q[moments.indices[name]] for name in edit.modules if name in moments.indices}
    return unknown | {name: q for name, q in known.items() if q.size == unknown[name].size}


def _share(weights: np.ndarray, live: np.ndarray) -> float:
    """The share of a sum that the live ones hold; 1 where there is nothing to hold, NaN where it is not known."""
    total = float(weights.sum())
    return float(weights[live].sum()) / total if total != 0 else 1.0
