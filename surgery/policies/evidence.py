"""Sensitivities aggregated over calibration examples (paper §3.4), in stacks: what policies look at.

`Moments` holds every measured component once, computed when a measurement is first used; `Evidence`
cuts from it the modules of one rank, one row each, so that a policy works on all of them at once.
Every row is computed as if it stood alone: no module changes a bit of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from surgery.sensitivity import Moments

NORMS = ("mean", "l2", "none")
MAGNITUDES = ("mean_abs", "abs_mean")


@dataclass(frozen=True)
class Evidence:
    """Modules of equal rank, one row each, one number per component.

    `signed` is the mean of g over calibration examples and `error` its standard error (NaN where
    unknown), `magnitude` the mean of |g|, `second_moment` the mean of g², and `q` the second moment of what
    enters along vₖ, E[(vₖᵀx)²] (NaN where unknown). `given` are gains that are already known, as of a policy that
    looks at a whole scope.
    """

    names: tuple[str, ...]
    sigma: Float64[ndarray, "module rank"]
    signed: Float64[ndarray, "module rank"]
    error: Float64[ndarray, "module rank"]
    magnitude: Float64[ndarray, "module rank"]
    second_moment: Float64[ndarray, "module rank"]
    q: Float64[ndarray, "module rank"]
    given: Float64[ndarray, "module rank"] | None = None

    @property
    def has_q(self) -> Bool[ndarray, " module"]:
        """Which modules have finite second moments of their inputs, not all of them zero."""
        return np.isfinite(self.q).all(axis=1) & (self.q > 0).any(axis=1)

    @property
    def has_gradient(self) -> Bool[ndarray, " module"]:
        """Which modules a finite gradient reached."""
        finite = np.isfinite(self.signed).all(axis=1) & np.isfinite(self.magnitude).all(axis=1)
        return finite & self.magnitude.any(axis=1)

    def sizes(self, magnitude: str) -> Float64[ndarray, "module rank"]:
        """mean |g|, as in the paper (`mean_abs`), or |mean g|, as in the released code (`abs_mean`)."""
        return self.magnitude if magnitude == "mean_abs" else np.abs(self.signed)

    def rows(self, chosen: Bool[ndarray, " module"]) -> "Evidence":
        """The evidence for the chosen modules only."""
        if chosen.all():
            return self
        names = tuple(name for name, keep in zip(self.names, chosen, strict=True) if keep)
        stacks = (self.sigma, self.signed, self.error, self.magnitude, self.second_moment, self.q)
        found = Evidence(names, *(stack[chosen] for stack in stacks))
        return found if self.given is None else replace(found, given=self.given[chosen])


def evidence_for(
    names: Sequence[str], sigma: Float64[ndarray, "module rank"], moments: Moments | None
) -> Evidence:
    """The rows of `names`; without a measurement every g is 0, its error and q unknown."""
    if moments is None:
        zero, unknown = np.zeros_like(sigma), np.full_like(sigma, np.nan)
        return Evidence(tuple(names), sigma, zero, unknown, zero, zero, unknown)
    at = np.stack([moments.indices[name] for name in names])
    stacks = (moments.mean, moments.error, moments.magnitude, moments.second_moment, moments.q)
    return Evidence(tuple(names), sigma, *(stack[at] for stack in stacks))


def pooled(stacks: Sequence[Evidence]) -> Evidence:
    """All modules of a scope as if they were one: a single row, module after module, stack after stack."""
    fields = ("sigma", "signed", "error", "magnitude", "second_moment", "q")
    rows = (np.concatenate([getattr(stack, field).ravel() for stack in stacks])[np.newaxis] for field in fields)
    return Evidence(("the whole scope",), *rows)


def normalise(values: Float64[ndarray, "module rank"], norm: str) -> Float64[ndarray, "module rank"]:
    """Divide each row by its mean|·| (`mean`), by its ‖·‖₂ (`l2`) or by nothing; zeros stay zeros."""
    if norm == "none":
        return values.copy()
    if norm == "mean":
        scale = np.abs(values).mean(axis=1, keepdims=True)
    else:
        scale = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, scale, out=values.copy(), where=scale > 0)
