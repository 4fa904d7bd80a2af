"""What is inside an adapter, as plain numbers: the Adapter page and the `inspect` command."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from surgery.adapter import SCOPES, Adapter, modules_in
from surgery.spectra.spectrum import Spectra, components_for_energy, effective_rank, stable_rank


@dataclass(frozen=True)
class ModuleFacts:
    """One module: `norm` is ‖ΔW‖_F, `top` is σ₁, `k90` the components that hold 90 % of Σσ².

    `degenerate` counts the components whose σ another one shares: their single gₖ are not determined.
    """

    name: str
    layer: int | None
    family: str
    shape: tuple[int, int]
    rank: int
    scaling: float
    norm: float
    top: float
    effective_rank: float
    stable_rank: float
    k90: int
    degenerate: int


def module_facts(adapter: Adapter, spectra: Spectra) -> list[ModuleFacts]:
    """Facts of every module, in the adapter's order."""
    facts = []
    for name, spectrum in spectra.items():
        sigma = spectrum.sigma
        facts.append(
            ModuleFacts(
                name=name,
                layer=spectrum.layer,
                family=spectrum.family,
                shape=(spectrum.U.shape[0], spectrum.V.shape[0]),
                rank=adapter.modules[name].rank,
                scaling=adapter.modules[name].scaling,
                norm=float(np.linalg.norm(sigma)),
                top=float(sigma[0]),
                effective_rank=effective_rank(sigma),
                stable_rank=stable_rank(sigma),
                k90=components_for_energy(sigma),
                degenerate=int(spectrum.degenerate.sum()),
            )
        )
    return facts


def scope_scalars(spectra: Spectra) -> dict[str, int]:
    """Edited scalars of every named scope (paper Eq. 8); 0 where a scope matches nothing."""
    return {scope: sum(spectra[name].rank for name in modules_in(spectra, scope)) for scope in SCOPES}


def inspection(adapter: Adapter, spectra: Spectra) -> dict[str, Any]:
    """Facts of an adapter and of its modules as one JSON-ready object."""
    facts = module_facts(adapter, spectra)
    ranks = sorted({f.rank for f in facts})
    dtypes = sorted({str(factors.B.dtype) for factors in adapter.modules.values()})
    return {
        "adapter": adapter.source,
        "digest": adapter.digest,
        "base": adapter.base_name,
        "task": adapter.task,
        "modules": len(facts),
        "layers": len(adapter.layers),
        "families": {name: sum(f.family == name for f in facts) for name in adapter.families},
        "ranks": ranks,
        "scalings": sorted({f.scaling for f in facts}),
        "dtypes": dtypes,
        "parameters": sum(f.A.size + f.B.size for f in adapter.modules.values()),
        "norm": float(np.sqrt(sum(f.norm**2 for f in facts))),
        "edited_scalars": scope_scalars(spectra),
        "extra_tensors": list(adapter.extra),
        "notes": list(adapter.notes),
        "details": [vars(f) | {"shape": list(f.shape)} for f in facts],
    }
