"""What is inside an adapter, as plain numbers: the Adapter page and the `inspect` command."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from surgery.adapter import SCOPES, Adapter, modules_in
from surgery.spectra.spectrum import (
    Spectra,
    components_for_energy,
    degenerate_components,
    effective_rank,
    of_equal_rank,
    stable_rank,
)


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
    facts: dict[str, ModuleFacts] = {}
    for names in of_equal_rank(spectra, spectra):
        sigma = np.stack([spectra[name].sigma for name in names])
        tolerance = np.array([spectra[name].gap_tolerance for name in names])
        numbers = zip(
            np.linalg.norm(sigma, axis=1).tolist(),
            sigma[:, 0].tolist(),
            np.asarray(effective_rank(sigma)).tolist(),
            np.asarray(stable_rank(sigma)).tolist(),
            np.asarray(components_for_energy(sigma)).tolist(),
            degenerate_components(sigma, tolerance).sum(axis=1).tolist(),
            strict=True,
        )
        for name, row in zip(names, numbers, strict=True):
            spectrum, factors = spectra[name], adapter.modules[name]
            own = (name, spectrum.layer, spectrum.family, spectrum.shape, factors.rank, factors.scaling)
            facts[name] = ModuleFacts(*own, *row)
    return [facts[name] for name in spectra]


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
        "kind": adapter.kind,
        "task": adapter.task,
        "modules": len(facts),
        "layers": len(adapter.layers),
        "families": {name: sum(f.family == name for f in facts) for name in adapter.families},
        "ranks": ranks,
        "scalings": sorted({f.scaling for f in facts}),
        "dtypes": dtypes,
        "parameters": sum(f.parameters for f in adapter.modules.values()),
        "norm": float(np.sqrt(sum(f.norm**2 for f in facts))),
        "edited_scalars": scope_scalars(spectra),
        "extra_tensors": list(adapter.extra),
        "notes": list(adapter.notes),
        "details": [vars(f) | {"shape": list(f.shape)} for f in facts],
    }
