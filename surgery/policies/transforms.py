"""Policies that reshape a spectrum by its own values, and at most by what enters along its directions.

They are those of the follow-up to the paper (TTtianTT/peft-sft-lab, September 2026) and need no gradient. Null
components keep gain 1 and count in no sum, norm or median.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float64
from numpy import ndarray

from surgery.policies.evidence import Evidence
from surgery.policies.knobs import Knobbed, knob
from surgery.spectra import null_components

# x ← x(a + bx² + cx⁴): the first lifts small values fast and lands about 1, the second settles there
_FAST = (3.4445, -4.775, 2.0315)
_STABLE = (2.0, -1.5, 0.5)
_LEAST_Q = 0.1


def _fast_knob() -> Any:
    return knob(4, "rounds that lift small values fast", low=0, high=8, step=1)


def _stable_knob() -> Any:
    return knob(1, "rounds after them that settle what was lifted", low=0, high=8, step=1)


@dataclass(frozen=True)
class _Rows:
    """Modules that are not zero: σ/σ₁, whose squares cannot overflow, with 0 for what is not `live`."""

    relative: Float64[ndarray, "module rank"]
    live: Bool[ndarray, "module rank"]
    evidence: Evidence

    @property
    def mean(self) -> Float64[ndarray, "module 1"]:
        total: ndarray = self.relative.sum(axis=1, keepdims=True)
        return total / self.live.sum(axis=1, keepdims=True)

    def median(self, values: Float64[ndarray, "module rank"]) -> Float64[ndarray, "module 1"]:
        ordered = np.sort(np.where(self.live, values, np.inf), axis=1)
        count = self.live.sum(axis=1, keepdims=True)
        low, high = (np.take_along_axis(ordered, at, axis=1) for at in ((count - 1) // 2, count // 2))
        return low / 2 + high / 2  # halved first: the sum may overflow

    def over(self, values: Float64[ndarray, "module _"]) -> Float64[ndarray, "module rank"]:
        """The values over σ/σ₁, 1 where nothing lives."""
        return np.divide(values, self.relative, out=np.ones_like(self.relative), where=self.live)

    def restored(self, factor: Float64[ndarray, "module rank"]) -> Float64[ndarray, "module rank"]:
        """Gains in proportion to `factor` that keep Σσ; equal factors are gains of exactly 1."""
        factor = np.where(self.live, factor, 0.0)
        factor = factor / factor.max(axis=1, keepdims=True)
        left = (self.relative * factor).sum(axis=1, keepdims=True)
        return factor * (self.relative.sum(axis=1, keepdims=True) / left)


class _Transform(Knobbed):
    """A policy that works on live components only."""

    needs_gradient: ClassVar[bool] = False

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        gains = np.ones_like(evidence.sigma)
        live = ~null_components(evidence.sigma)
        some = np.asarray(live.any(axis=1))
        if some.any():
            rows, live = evidence.rows(some), live[some]
            relative = np.where(live, rows.sigma, 0.0) / rows.sigma.max(axis=1, keepdims=True)
            gains[some] = np.where(live, self.reshaped(_Rows(relative, live, rows)), 1.0)
        return gains

    def reshaped(self, rows: _Rows) -> Float64[ndarray, "module rank"]:
        """The gains of the live components; what it gives for the others is not read."""
        raise NotImplementedError


@dataclass(frozen=True)
class Power(_Transform):
    """σ′ = σ^p: a temperature of the spectrum, flat at 0 and itself at 1 (follow-up, TTtianTT/peft-sft-lab).

    At p = 0 energy rule l1 gives S/r everywhere, and l2 the flat spectrum of the same Frobenius norm.
    """

    name: ClassVar[str] = "power"
    title: ClassVar[str] = "Flatten or sharpen the spectrum by an exponent"

    exponent: float = knob(
        0.5, "exponent p of σ^p: 0 is flat, 1 leaves σ, more sharpens", low=0.0, high=1.5, step=0.05
    )

    def reshaped(self, rows: _Rows) -> Float64[ndarray, "module rank"]:
        with np.errstate(over="ignore"):  # judged after the clamp
            return np.where(rows.live, rows.evidence.sigma, 1.0) ** (self.exponent - 1)


@dataclass(frozen=True)
class HNS(_Transform):
    """A few Newton–Schulz rounds on the spectrum, Σσ restored (HNS; follow-up, TTtianTT/peft-sft-lab).

    x = σ/‖σ‖₂, then `fast` times x ← x(3.4445 − 4.775x² + 2.0315x⁴) and `stable` times x ← x(2 − 1.5x² + 0.5x⁴). Both
    brackets are positive for every x, so the floor at zero and the flat fallback of the original never act. The order
    of components is kept: a larger σ may end below a smaller one.
    """

    name: ClassVar[str] = "hns"
    title: ClassVar[str] = "Flatten by a few Newton–Schulz rounds (HNS)"

    fast: int = _fast_knob()
    stable: int = _stable_knob()

    def reshaped(self, rows: _Rows) -> Float64[ndarray, "module rank"]:
        return rows.restored(_newton_schulz(rows.relative, self.fast, self.stable))


@dataclass(frozen=True)
class TopShrink(_Transform):
    """σ′ = min(σ, S/r): what stands above the mean comes down to it (follow-up, TTtianTT/peft-sft-lab)."""

    name: ClassVar[str] = "top_shrink"
    usual_energy: ClassVar[str] = "none"
    title: ClassVar[str] = "Bring what is above the mean down to it"

    def reshaped(self, rows: _Rows) -> Float64[ndarray, "module rank"]:
        return np.minimum(rows.over(rows.mean), 1.0)


@dataclass(frozen=True)
class TailLift(_Transform):
    """σ′ = max(σ, S/r): what stands below the mean comes up to it (follow-up, TTtianTT/peft-sft-lab)."""

    name: ClassVar[str] = "tail_lift"
    usual_energy: ClassVar[str] = "none"
    title: ClassVar[str] = "Bring what is below the mean up to it"

    def reshaped(self, rows: _Rows) -> Float64[ndarray, "module rank"]:
        return np.maximum(rows.over(rows.mean), 1.0)


@dataclass(frozen=True)
class Clip(_Transform):
    """σ′ = min(σ, cap·median σ): single spikes are cut and all else stays; an infinite cap cuts nothing."""

    name: ClassVar[str] = "clip"
    usual_energy: ClassVar[str] = "none"
    title: ClassVar[str] = "Cut spikes at a multiple of the median"

    cap: float = knob(3.0, "largest σ, in medians of its module", low=0.5, high=20.0, step=0.1, unbounded=True)

    def reshaped(self, rows: _Rows) -> Float64[ndarray, "module rank"]:
        return np.minimum(rows.over(self.cap * rows.median(rows.relative)), 1.0)


class _OnInputs(_Transform):
    """A policy that weighs components by q̄ = max(q, 0.1·median q); a module whose median q is 0 stays as it is."""

    @property
    def needs_q(self) -> bool:
        return True

    def reshaped(self, rows: _Rows) -> Float64[ndarray, "module rank"]:
        q, middle = rows.evidence.q, rows.median(rows.evidence.q)
        some = middle > 0
        # roots first: their ratio stays finite where that of the moments may not
        root = np.sqrt(np.maximum(q, _LEAST_Q * middle)) / np.sqrt(np.where(some, middle, 1.0))
        return np.where(some, self.weighed(rows, np.where(rows.live & some, root, 1.0)), 1.0)

    def weighed(self, rows: _Rows, root: Float64[ndarray, "module rank"]) -> Float64[ndarray, "module rank"]:
        """`reshaped`, with √(q̄/median q) of every component."""
        raise NotImplementedError


@dataclass(frozen=True)
class FunctionalHNS(_OnInputs):
    """HNS of the spectrum as its inputs carry it, Σσ restored (follow-up, TTtianTT/peft-sft-lab).

    With q̄ = max(q, 0.1·median q) and w = (q̄/median q)^(α/2), σ∘w goes through HNS and is divided by w; α = 0 is HNS.
    A module whose median q is 0 stays as it is.
    """

    name: ClassVar[str] = "functional_hns"
    title: ClassVar[str] = "Flatten what the inputs carry by a few Newton–Schulz rounds (Functional-HNS)"

    fast: int = _fast_knob()
    stable: int = _stable_knob()
    alpha: float = knob(0.5, "weight of the inputs' second moments: 0 is HNS", low=0.0, high=1.0, step=0.05)

    def weighed(self, rows: _Rows, root: Float64[ndarray, "module rank"]) -> Float64[ndarray, "module rank"]:
        carried = rows.relative * root**self.alpha
        top = carried.max(axis=1, keepdims=True)
        return rows.restored(_newton_schulz(carried / top, self.fast, self.stable))


@dataclass(frozen=True)
class FunctionalFlat(_OnInputs):
    """σ′ ∝ q̄^(−1/2), Σσ restored: every direction does as much (follow-up, TTtianTT/peft-sft-lab).

    q̄ = max(q, 0.1·median q). A module whose median q is 0 stays as it is.
    """

    name: ClassVar[str] = "functional_flat"
    title: ClassVar[str] = "Let every direction do as much, as the inputs carry it"

    def weighed(self, rows: _Rows, root: Float64[ndarray, "module rank"]) -> Float64[ndarray, "module rank"]:
        return rows.restored(rows.over(1 / root))


def _newton_schulz(
    relative: Float64[ndarray, "module rank"], fast: int, stable: int
) -> Float64[ndarray, "module rank"]:
    """What the rounds multiply each value by; the values are relative to the largest of their row."""
    x = relative / np.linalg.norm(relative, axis=1, keepdims=True)
    factor = np.ones_like(x)
    for a, b, c in [_FAST] * fast + [_STABLE] * stable:
        square = x * x
        bracket = a + square * (b + square * c)
        x, factor = x * bracket, factor * bracket
    return factor


TRANSFORMS = (Power, HNS, TopShrink, TailLift, Clip, FunctionalHNS, FunctionalFlat)
