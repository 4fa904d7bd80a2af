"""Policies: rules that turn sensitivities into gains (paper §3.4, Eq. 5–7).

A policy sees one module at a time. Step sizes, gates and fractions default to those of the
authors' released code, because the paper's text does not give them. A new policy is one frozen
dataclass here, listed in `POLICIES`; its fields are its knobs, and the app, the command line and
the recipe pick them up from there.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.special import expit, logit

from surgery.errors import PolicyError
from surgery.home import digest

NORMS = ("mean", "l2", "none")
_FLAT = 1e-12


@dataclass(frozen=True)
class Evidence:
    """What a policy may look at for one module, one number per component.

    `signed` is the mean of g over calibration examples, `magnitude` the mean of |g|.
    """

    name: str
    sigma: Float64[ndarray, "rank"]
    signed: Float64[ndarray, "rank"]
    magnitude: Float64[ndarray, "rank"]


class Policy(Protocol):
    """One rule; its dataclass fields are its knobs."""

    name: ClassVar[str]
    title: ClassVar[str]

    @property
    def needs_gradient(self) -> bool:
        """Whether it works from sensitivities."""
        ...

    def gains(self, evidence: Evidence) -> Float64[ndarray, "rank"]:
        """αₖ for every component, before manual gains, clamp and energy rule."""
        ...


@dataclass(frozen=True)
class Knob:
    """How a knob is offered: its range, step and one line of help. Limits are inclusive.

    `when` names an earlier knob and the value it must have for this one to matter.
    """

    name: str
    kind: type
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    when: tuple[str, Any] | None = None


def _knob(default: Any, help: str, **limits: Any) -> Any:
    return field(default=default, metadata={"help": help, **limits})


def _fraction(default: float, help: str) -> Any:
    return _knob(default, help, low=0.0, high=1.0, step=0.05)


def _gate(default: float, help: str) -> Any:
    return _knob(default, help, low=0.0, high=4.0, step=0.05)


def _step(default: float, help: str, *, asymmetric: bool) -> Any:
    return _knob(default, help, low=0.0, high=8.0, step=0.1, when=("asymmetric", asymmetric))


def _norm() -> Any:
    return _knob("mean", "how magnitudes are normalised inside a module", choices=NORMS)


def _seed() -> Any:
    return _knob(0, "seed of the random draw", low=0, high=2**31 - 1, step=1)


@dataclass(frozen=True)
class Identity:
    """αₖ = 1: the unedited adapter."""

    name: ClassVar[str] = "identity"
    title: ClassVar[str] = "Leave every component as it is"
    needs_gradient: ClassVar[bool] = False

    def gains(self, evidence: Evidence) -> Float64[ndarray, "rank"]:
        return np.ones_like(evidence.sigma)


@dataclass(frozen=True)
class _ThreeGates:
    """amp for the first k_core components of an order, sup for the last k_noise, mid between; no overlap."""

    core_frac: float = _fraction(0.2, "share of components to amplify")
    noise_frac: float = _fraction(0.2, "share of components to suppress")
    min_core_k: int = _knob(1, "at least this many are amplified", low=0, high=64, step=1)
    amp: float = _gate(1.25, "gain of the amplified")
    sup: float = _gate(0.80, "gain of the suppressed")
    mid: float = _gate(1.0, "gain of all others")

    def _gates(self, order: ndarray) -> Float64[ndarray, "rank"]:
        r = order.size
        k_core = min(r, max(round(r * self.core_frac), self.min_core_k))
        k_noise = min(max(round(r * self.noise_frac), 0), r - k_core)
        gains = np.full(r, self.mid, dtype=np.float64)
        gains[order[:k_core]] = self.amp
        gains[order[r - k_noise :]] = self.sup
        return gains


@dataclass(frozen=True)
class AbsSelect(_ThreeGates):
    """Three gates by rank of magnitude: core amplified, noise suppressed, the rest at `mid` (§3.4, 1)."""

    name: ClassVar[str] = "abs_select"
    title: ClassVar[str] = "Amplify the most sensitive, suppress the least"
    needs_gradient: ClassVar[bool] = True

    norm: str = _norm()

    def gains(self, evidence: Evidence) -> Float64[ndarray, "rank"]:
        x = normalise(evidence.magnitude, self.norm)
        # a stable descending order: of equal magnitudes the lower index ranks higher
        return self._gates(np.argsort(-x, kind="stable"))


@dataclass(frozen=True)
class SmoothAbs:
    """A sigmoid gate on the normalised magnitude, between `sup` and `amp` (§3.4, 2, Eq. 6)."""

    name: ClassVar[str] = "smooth_abs"
    title: ClassVar[str] = "Gate smoothly by sensitivity"
    needs_gradient: ClassVar[bool] = True

    core_frac: float = _fraction(0.2, "upper quantile of the spread")
    noise_frac: float = _fraction(0.2, "lower quantile of the spread")
    amp: float = _gate(1.25, "gain far above the centre")
    sup: float = _gate(0.80, "gain far below the centre")
    mid: float = _gate(1.0, "gain at the centre")
    temperature: float = _knob(0.35, "softness of the gate", low=0.01, high=4.0, step=0.05)
    center_q: float = _fraction(0.5, "quantile that is the centre")
    align_mid: bool = _knob(True, "shift the gate so that the centre gets exactly mid")
    norm: str = _norm()

    def gains(self, evidence: Evidence) -> Float64[ndarray, "rank"]:
        x = normalise(evidence.magnitude, self.norm)
        if x.max() - x.min() < _FLAT:
            return np.full_like(x, self.mid)
        spread = np.quantile(x, 1 - self.core_frac) - np.quantile(x, self.noise_frac)
        if spread <= 0:
            spread = np.quantile(x, 0.75) - np.quantile(x, 0.25)
        # most components tied: the gate becomes a step at the centre
        tau = max(self.temperature * spread, _FLAT)
        mu = np.quantile(x, self.center_q)
        if self.align_mid:
            if not self.sup < self.mid < self.amp:
                raise PolicyError(
                    f"align_mid needs sup < mid < amp, not {self.sup:g}, {self.mid:g}, {self.amp:g}",
                    "order the gates or switch align_mid off",
                )
            mu = mu - tau * logit((self.mid - self.sup) / (self.amp - self.sup))
        return self.sup + (self.amp - self.sup) * expit((x - mu) / tau)


@dataclass(frozen=True)
class RandomIndex(_ThreeGates):
    """The three gates of abs_select on random components: the control without a signal (§3.4, 3)."""

    name: ClassVar[str] = "random_index"
    title: ClassVar[str] = "Random control with the gates of abs_select"
    needs_gradient: ClassVar[bool] = False

    seed: int = _seed()

    def gains(self, evidence: Evidence) -> Float64[ndarray, "rank"]:
        # seeded per module, so that neither scope nor module order changes a draw
        entropy = int(digest([str(self.seed), evidence.name])[:32], 16)
        return self._gates(np.random.default_rng(entropy).permutation(evidence.sigma.size))


@dataclass(frozen=True)
class GradDirection:
    """Multiplicative update against the signed gradient (§3.4, 4, Eq. 7).

    A positive g means that a larger σ raises the loss, so the gain falls below 1.
    """

    name: ClassVar[str] = "grad_direction"
    title: ClassVar[str] = "Step against the signed gradient"
    needs_gradient: ClassVar[bool] = True

    asymmetric: bool = _knob(True, "treat the two signs differently")
    eta_suppress: float = _step(2.0, "step for components that raise the loss", asymmetric=True)
    eta_enhance: float = _step(0.2, "step for components that lower the loss", asymmetric=True)
    power: float = _knob(
        1.0, "exponent of the suppressed part", low=0.1, high=4.0, step=0.1, when=("asymmetric", True)
    )
    eta: float = _step(0.2, "step of the symmetric form", asymmetric=False)

    def gains(self, evidence: Evidence) -> Float64[ndarray, "rank"]:
        g = normalise(evidence.signed, "mean")
        if not self.asymmetric:
            return np.exp(-self.eta * g)
        harmful, helpful = np.maximum(g, 0.0), np.maximum(-g, 0.0)
        return np.exp(self.eta_enhance * helpful - self.eta_suppress * harmful**self.power)


@dataclass(frozen=True)
class Scale:
    """αₖ = γ everywhere: the control that tells reweighting from plain rescaling.

    An energy rule undoes it exactly, so it is used with energy `none`.
    """

    name: ClassVar[str] = "scale"
    title: ClassVar[str] = "Rescale everything alike"
    needs_gradient: ClassVar[bool] = False

    gamma: float = _knob(1.0, "the common gain", low=0.0, high=4.0, step=0.05)

    def gains(self, evidence: Evidence) -> Float64[ndarray, "rank"]:
        return np.full_like(evidence.sigma, self.gamma)


@dataclass(frozen=True)
class Truncate:
    """αₖ = 1 for the kept components and 0 for the rest, ranked by σ or by sensitivity."""

    name: ClassVar[str] = "truncate"
    title: ClassVar[str] = "Keep the leading components only"

    keep: int = _knob(8, "components kept in every module", low=0, high=256, step=1)
    by: str = _knob("sigma", "what ranks them", choices=("sigma", "sensitivity"))

    @property
    def needs_gradient(self) -> bool:
        return self.by == "sensitivity"

    def gains(self, evidence: Evidence) -> Float64[ndarray, "rank"]:
        ranked = evidence.sigma if self.by == "sigma" else evidence.magnitude
        gains = np.zeros_like(evidence.sigma)
        gains[np.argsort(-ranked, kind="stable")[: self.keep]] = 1.0
        return gains


POLICIES: dict[str, type[Any]] = {
    policy.name: policy for policy in (GradDirection, SmoothAbs, AbsSelect, RandomIndex, Scale, Truncate, Identity)
}


def normalise(values: Float64[ndarray, "rank"], norm: str) -> Float64[ndarray, "rank"]:
    """Divide by mean|·| (`mean`), by ‖·‖₂ (`l2`) or by nothing; all zeros stay zeros."""
    scale = {"mean": np.abs(values).mean(), "l2": np.linalg.norm(values), "none": 1.0}[norm]
    return values / scale if scale > 0 else values.copy()


def knobs_of(policy: type[Any] | Any) -> tuple[Knob, ...]:
    """The knobs of a policy, in order, as the app and the command line offer them."""
    return tuple(Knob(f.name, type(f.default), f.default, **f.metadata) for f in dataclasses.fields(policy))


def knob_values(policy: Policy) -> dict[str, Any]:
    """The policy's knobs and their present values."""
    return {knob.name: getattr(policy, knob.name) for knob in knobs_of(policy)}


def make_policy(name: str, knobs: Mapping[str, Any] | None = None) -> Policy:
    """Build a policy by name; raises `PolicyError` for an unknown name or knob, or a value out of range."""
    if name not in POLICIES:
        raise PolicyError(f"no policy called {name!r}", f"use one of {', '.join(POLICIES)}")
    kind = POLICIES[name]
    known = {knob.name: knob for knob in knobs_of(kind)}
    values = {}
    for key, value in (knobs or {}).items():
        if key not in known:
            offered = ", ".join(known) or "none: it has no knobs"
            raise PolicyError(f"policy {name} has no knob {key!r}", f"its knobs are {offered}")
        values[key] = _checked(known[key], value)
    policy: Policy = kind(**values)
    return policy


def _checked(knob: Knob, value: Any) -> Any:
    if knob.kind is bool or knob.kind is str:
        valid = isinstance(value, knob.kind) and (not knob.choices or value in knob.choices)
        expected = f"one of {', '.join(knob.choices)}" if knob.choices else "true or false"
    else:
        low, high = knob.low or 0, knob.high if knob.high is not None else math.inf
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        # compared before anything is computed: a whole number may be too large for a float
        valid = number and low <= value <= high and (knob.kind is float or float(value).is_integer())
        expected = f"a {'whole ' if knob.kind is int else ''}number from {low:g} to {high:g}"
    if not valid:
        raise PolicyError(f"knob {knob.name} cannot be {value!r}", f"use {expected}")
    return knob.kind(value)
