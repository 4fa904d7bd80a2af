"""Policies that gate by magnitude: how strongly a component acts on the loss, in either direction.

abs_select and smooth_abs are the paper's (§3.4, 1 and 2); double_smooth, z_score and robust_z stand
in the authors' released code only, and so do the defaults of all of them. x is the magnitude
normalised inside its module, Q(q) its quantile there.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, Int
from numpy import ndarray
from scipy.special import expit, logit

from surgery.errors import PolicyError
from surgery.policies.evidence import Evidence, normalise
from surgery.policies.knobs import (
    Knobbed,
    fraction_knob,
    gate_knob,
    knob,
    magnitude_knob,
    norm_knob,
    softness_knob,
)

_FLAT = 1e-12
_NO_SPREAD = 1e-6


@dataclass(frozen=True)
class ThreeGates(Knobbed):
    """amp for the first k_core components of an order, sup for the last k_noise, mid between; no overlap."""

    core_frac: float = fraction_knob(0.2, "share of components to amplify")
    noise_frac: float = fraction_knob(0.2, "share of components to suppress")
    min_core_k: int = knob(1, "at least this many are amplified", low=0, high=64, step=1, components=True)
    amp: float = gate_knob(1.25, "gain of the amplified")
    sup: float = gate_knob(0.80, "gain of the suppressed")
    mid: float = gate_knob(1.0, "gain of all others")

    def gates(self, order: Int[ndarray, "module rank"]) -> Float64[ndarray, "module rank"]:
        r = order.shape[1]
        k_core = min(r, max(round(r * self.core_frac), self.min_core_k))
        k_noise = min(max(round(r * self.noise_frac), 0), r - k_core)
        gates = np.repeat([self.amp, self.mid, self.sup], [k_core, r - k_core - k_noise, k_noise])
        gains = np.empty(order.shape)
        np.put_along_axis(gains, order, np.broadcast_to(gates, order.shape), axis=1)
        return gains


@dataclass(frozen=True)
class AbsSelect(ThreeGates):
    """Three gates by rank of magnitude: core amplified, noise suppressed, the rest at `mid` (§3.4, 1)."""

    name: ClassVar[str] = "abs_select"
    title: ClassVar[str] = "Amplify the most sensitive, suppress the least"
    needs_gradient: ClassVar[bool] = True

    norm: str = norm_knob()
    magnitude: str = magnitude_knob()

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        x = normalise(evidence.sizes(self.magnitude), self.norm)
        # a stable descending order: of equal magnitudes the lower index ranks higher
        return self.gates(np.argsort(-x, axis=1, kind="stable"))


@dataclass(frozen=True)
class SmoothAbs(Knobbed):
    """A sigmoid gate on the normalised magnitude, between `sup` and `amp` (§3.4, 2, Eq. 6)."""

    name: ClassVar[str] = "smooth_abs"
    title: ClassVar[str] = "Gate smoothly by sensitivity"
    needs_gradient: ClassVar[bool] = True

    core_frac: float = fraction_knob(0.2, "upper quantile of the spread")
    noise_frac: float = fraction_knob(0.2, "lower quantile of the spread")
    amp: float = gate_knob(1.25, "gain far above the centre")
    sup: float = gate_knob(0.80, "gain far below the centre")
    mid: float = gate_knob(1.0, "gain at the centre")
    temperature: float = softness_knob(0.35, "softness of the gate")
    center_q: float = fraction_knob(0.5, "quantile that is the centre")
    align_mid: bool = knob(True, "shift the gate so that the centre gets exactly mid")
    norm: str = norm_knob()
    magnitude: str = magnitude_knob()

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        x = normalise(evidence.sizes(self.magnitude), self.norm)
        flat = _range(x) < _FLAT
        if flat.all():
            return np.full_like(x, self.mid)
        core, noise, third, first, mu = _quantiles(
            x, 1 - self.core_frac, self.noise_frac, 0.75, 0.25, self.center_q
        )
        spread = np.where(core - noise > 0, core - noise, third - first)
        # most components tied: the gate becomes a step at the centre
        tau = np.maximum(self.temperature * spread, _FLAT)
        if self.align_mid:
            if not self.sup < self.mid < self.amp:
                raise PolicyError(
                    f"align_mid needs sup < mid < amp, not {self.sup:g}, {self.mid:g}, {self.amp:g}",
                    "order the gates or switch align_mid off",
                )
            mu = mu - tau * logit((self.mid - self.sup) / (self.amp - self.sup))
        return np.where(flat, self.mid, self.sup + (self.amp - self.sup) * expit((x - mu) / tau))


@dataclass(frozen=True)
class DoubleSmooth(Knobbed):
    """Two sigmoid gates on the normalised magnitude, one at each end (released code).

    mid − (mid − sup)·sigmoid((Q(noise_frac) − x)/τ) + (amp − mid)·sigmoid((x − Q(1 − core_frac))/τ)
    with τ = temperature·(max x − min x). Where the two ends overlap, noise_frac ≥ 1 − core_frac, the
    quantiles are 0.45 and 0.55; all gains are mid when max x − min x < 1e-12.
    """

    name: ClassVar[str] = "double_smooth"
    title: ClassVar[str] = "Gate both ends of the sensitivities smoothly"
    needs_gradient: ClassVar[bool] = True

    core_frac: float = fraction_knob(0.2, "share of components above the upper gate")
    noise_frac: float = fraction_knob(0.2, "share of components below the lower gate")
    amp: float = gate_knob(1.25, "gain far above the upper gate")
    sup: float = gate_knob(0.80, "gain far below the lower gate")
    mid: float = gate_knob(1.0, "gain between the gates")
    temperature: float = softness_knob(0.35, "softness of both gates, in units of the range")
    norm: str = norm_knob()
    magnitude: str = magnitude_knob()

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        x = normalise(evidence.sizes(self.magnitude), self.norm)
        noise_q, core_q = self.noise_frac, 1 - self.core_frac
        if noise_q >= core_q:
            noise_q, core_q = 0.45, 0.55
        noise, core = _quantiles(x, noise_q, core_q)
        span = _range(x)
        tau = self.temperature * np.maximum(span, _FLAT)
        gains = _two_gates(self, (noise - x) / tau, (x - core) / tau)
        return np.where(span < _FLAT, self.mid, gains)


@dataclass(frozen=True)
class _ZGates(Knobbed):
    """mid + (amp − mid)·sigmoid((z − core_z)/softness) − (mid − sup)·sigmoid((noise_z − z)/softness)."""

    amp: float = gate_knob(1.25, "gain far above the upper gate")
    sup: float = gate_knob(0.80, "gain far below the lower gate")
    mid: float = gate_knob(1.0, "gain between the gates")
    core_z: float = knob(1.0, "z of the upper gate", low=-8.0, high=8.0, step=0.1)
    noise_z: float = knob(-0.5, "z of the lower gate", low=-8.0, high=8.0, step=0.1)
    softness: float = softness_knob(0.2, "softness of both gates, in units of z")
    norm: str = norm_knob()
    magnitude: str = magnitude_knob()

    def gates(
        self,
        x: Float64[ndarray, "module rank"],
        centre: Float64[ndarray, "module 1"],
        spread: Float64[ndarray, "module 1"],
    ) -> Float64[ndarray, "module rank"]:
        none = spread < _NO_SPREAD
        z = (x - centre) / np.where(none, 1.0, spread)
        gains = _two_gates(self, (self.noise_z - z) / self.softness, (z - self.core_z) / self.softness)
        return np.where(none, 1.0, gains)


@dataclass(frozen=True)
class ZScore(_ZGates):
    """Two sigmoid gates on z = (x − mean x)/std x, std of the module's components (released code).

    mid + (amp − mid)·sigmoid((z − core_z)/softness) − (mid − sup)·sigmoid((noise_z − z)/softness).
    No edit, every gain 1, when std x < 1e-6.
    """

    name: ClassVar[str] = "z_score"
    title: ClassVar[str] = "Gate by how far a sensitivity is from the module's mean"
    needs_gradient: ClassVar[bool] = True

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        x = normalise(evidence.sizes(self.magnitude), self.norm)
        return self.gates(x, x.mean(axis=1, keepdims=True), x.std(axis=1, keepdims=True))


@dataclass(frozen=True)
class RobustZ(_ZGates):
    """z_score around the median: z = (x − median x)/(1.4826·MAD), MAD = median |x − median x|.

    One outlier then moves no other gain. No edit, every gain 1, when 1.4826·MAD < 1e-6, so for a
    module of which more than half the components are equal. The median of an even number is the
    mean of the two in the middle, where the released code takes the lower one.
    """

    name: ClassVar[str] = "robust_z"
    title: ClassVar[str] = "Gate by how far a sensitivity is from the module's median"
    needs_gradient: ClassVar[bool] = True

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        x = normalise(evidence.sizes(self.magnitude), self.norm)
        median = np.median(x, axis=1, keepdims=True)
        # 1.4826·MAD is the standard deviation of a normal sample
        return self.gates(x, median, 1.4826 * np.median(np.abs(x - median), axis=1, keepdims=True))


GATES = (SmoothAbs, AbsSelect, DoubleSmooth, ZScore, RobustZ)


def _two_gates(policy: DoubleSmooth | _ZGates, below: ndarray, above: ndarray) -> Float64[ndarray, "module rank"]:
    """From mid towards sup as `below` grows and towards amp as `above` grows."""
    return policy.mid - (policy.mid - policy.sup) * expit(below) + (policy.amp - policy.mid) * expit(above)


def _quantiles(x: Float64[ndarray, "module rank"], *q: float) -> Float64[ndarray, "quantile module 1"]:
    return np.quantile(x, q, axis=1)[..., np.newaxis]


def _range(x: Float64[ndarray, "module rank"]) -> Float64[ndarray, "module 1"]:
    return np.ptp(x, axis=1, keepdims=True)
