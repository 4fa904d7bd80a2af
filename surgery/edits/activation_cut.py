"""The cut of rank that knows how a module's inputs vary together: it turns the directions inside the span.

With z = Vᵀx and M = E[zzᵀ], the update of rank k nearest to ΔW in E‖ΔWx − ΔW′x‖² is U·P·Pᵀ·diag(σ)·Vᵀ, where P are the
k leading left singular vectors of diag(σ)·M^½ (a root of M and its Cholesky factor have the same), and the squares of
the singular values left out are the error. It is no edit of σ on fixed directions, so it is written as factors of its
own and is no variant of a proof; on fixed directions σ²q is the best cut, which is `Rank(by="functional")`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.edits.kept import Kept
from surgery.errors import PolicyError
from surgery.policies import Evidence, Rank, pooled
from surgery.sensitivity import InputMoments
from surgery.spectra import Spectra, Spectrum, null_components, one_thread


@dataclass(frozen=True)
class Turned:
    """`P` are the directions of a module's output, in coordinates of U, by falling root `size` of E‖PₖᵀUᵀΔWx‖²."""

    P: Float64[ndarray, "rank rank"]
    size: Float64[ndarray, " rank"]


def turned(sigma: Float64[ndarray, " rank"], M: Float64[ndarray, "rank rank"]) -> Turned:
    """The directions in which ΔW moves its inputs most.

    sigma: of the module.
    M: E[(Vᵀx)(Vᵀx)ᵀ] of what enters it, positive semi-definite but for rounding.
    """
    values, vectors = np.linalg.eigh(M)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    P, size, _ = np.linalg.svd(sigma[:, np.newaxis] * root)
    return Turned(P, size)


def truncated(spectrum: Spectrum, found: Turned, keep: int) -> Spectrum:
    """The update of rank `keep` nearest to a module's on its inputs, as a spectrum of its own."""
    P = found.P[:, :keep]
    left, sigma, right_t = np.linalg.svd(P.T * spectrum.sigma, full_matrices=False)
    live = ~null_components(sigma) if sigma.size else np.zeros(0, dtype=np.bool_)
    U, V = spectrum.U @ (P @ left[:, live]), spectrum.V @ right_t[live].T
    return Spectrum(spectrum.name, spectrum.layer, spectrum.family, U, sigma[live], V, spectrum.precision)


def activation_cuts(
    spectra: Spectra, inputs: InputMoments | None, policy: Rank, names: Iterable[str]
) -> tuple[dict[str, Spectrum], dict[str, str]]:
    """The truncated update of every module of `names`, and why the others of them stay as they are.

    spectra: of all modules, by name.
    inputs: the second moments of what enters them.
    policy: where the line is drawn, on the sizes of `Turned` in place of σ.

    Raises `PolicyError` without moments.
    """
    names = list(names)
    found = turned_modules(spectra, inputs, names)
    alone = {
        name: "the second moments of this module's input were not measured" for name in names if name not in found
    }
    return turned_cuts(spectra, found, policy), alone


def turned_modules(spectra: Spectra, inputs: InputMoments | None, names: Iterable[str]) -> dict[str, Turned]:
    """The directions of every module of `names` whose inputs were measured, whatever is kept of them.

    spectra: of all modules, by name.
    inputs: the second moments of what enters them.

    Raises `PolicyError` without moments.
    """
    if inputs is None:
        raise PolicyError(
            "a cut that knows the inputs works from their second moments, and these sensitivities were measured "
            "without them",
            "measure again with surgery calibrate",
        )
    with one_thread():
        return {name: turned(spectra[name].sigma, inputs.of(name)) for name in names if name in inputs.prompt}


def turned_cuts(spectra: Spectra, found: Mapping[str, Turned], policy: Rank) -> dict[str, Spectrum]:
    """The truncated update of every module that loses a direction.

    spectra: of all modules, by name.
    found: as `turned_modules` gives them.
    policy: where the line is drawn, on the sizes of `Turned` in place of σ.
    """
    kept = _counts(policy, {name: each.size for name, each in found.items()})
    with one_thread():
        cut = {
            name: truncated(spectra[name], each, kept[name])
            for name, each in found.items()
            if kept[name] < spectra[name].rank
        }
    return {name: part for name, part in cut.items() if part.rank < spectra[name].rank}


def kept_by_turned(spectra: Spectra, found: Mapping[str, Turned], cut: Mapping[str, Spectrum]) -> Kept:
    """What is left of the turned modules together: σ′ has directions of its own, so shares are of ‖ΔW‖² and E‖ΔWx‖².

    spectra: of all modules, by name.
    found: as `turned_modules` gives them.
    cut: as `turned_cuts` gives them.
    """
    rank = sum(spectra[name].rank for name in found)
    ranks = {name: cut[name].rank if name in cut else spectra[name].rank for name in found}
    whole = sum(float((spectra[name].sigma ** 2).sum()) for name in found)
    left = sum(float((cut.get(name, spectra[name]).sigma ** 2).sum()) for name in found)
    moved = sum(float((each.size**2).sum()) for each in found.values())
    still = sum(float((each.size[: ranks[name]] ** 2).sum()) for name, each in found.items())
    return Kept(rank, sum(ranks.values()), left / whole if whole else 1.0, still / moved if moved else 1.0)


def _counts(policy: Rank, sizes: Mapping[str, Float64[ndarray, " rank"]]) -> dict[str, int]:
    stacks = {name: _as_evidence(name, size) for name, size in sizes.items()}
    if policy.pools and stacks:
        kept = policy.gains(pooled(list(stacks.values())))[0] > 0
        ends = np.cumsum([size.size for size in sizes.values()])[:-1]
        return {name: int(own.sum()) for name, own in zip(sizes, np.split(kept, ends), strict=True)}
    return {name: int(policy.gains(stack).sum()) for name, stack in stacks.items()}


def _as_evidence(name: str, size: Float64[ndarray, " rank"]) -> Evidence:
    row = size[np.newaxis]
    return Evidence((name,), row, *(np.zeros_like(row) for _ in range(5)))
