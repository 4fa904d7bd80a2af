"""Edits that others are compared with: random gates, plain rescaling, truncation, and none at all."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.files import digest
from surgery.policies.evidence import Evidence
from surgery.policies.gates import ThreeGates
from surgery.policies.knobs import Knobbed, knob, magnitude_knob


@dataclass(frozen=True)
class RandomIndex(ThreeGates):
    """The three gates of abs_select on random components: the control without a signal (§3.4, 3)."""

    name: ClassVar[str] = "random_index"
    title: ClassVar[str] = "Random control with the gates of abs_select"
    needs_gradient: ClassVar[bool] = False

    seed: int = knob(0, "seed of the random draw", low=0, high=2**31 - 1, step=1)

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        r = evidence.sigma.shape[1]
        return self.gates(np.stack([self._drawn(name).permutation(r) for name in evidence.names]))

    def _drawn(self, name: str) -> np.random.Generator:
        # seeded per module, so that neither scope nor module order changes a draw
        return np.random.default_rng(int(digest([str(self.seed), name])[:32], 16))


@dataclass(frozen=True)
class Scale(Knobbed):
    """αₖ = γ everywhere: the control that tells reweighting from plain rescaling.

    An energy rule undoes it exactly, so it is used with energy `none`.
    """

    name: ClassVar[str] = "scale"
    usual_energy: ClassVar[str] = "none"
    title: ClassVar[str] = "Rescale everything alike"
    needs_gradient: ClassVar[bool] = False

    gamma: float = knob(1.0, "the common gain", low=0.0, high=4.0, step=0.05)

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        return np.full_like(evidence.sigma, self.gamma)


@dataclass(frozen=True)
class Truncate(Knobbed):
    """αₖ = 1 for the kept components and 0 for the rest, ranked by σ or by sensitivity.

    An energy rule would give the norm of all to those that are kept.
    """

    name: ClassVar[str] = "truncate"
    usual_energy: ClassVar[str] = "none"
    title: ClassVar[str] = "Keep the leading components only"

    keep: int = knob(8, "components kept in every module", low=0, high=256, step=1, components=True)
    by: str = knob("sigma", "what ranks them", choices=("sigma", "sensitivity"))
    magnitude: str = magnitude_knob(when=("by", "sensitivity"))

    @property
    def needs_gradient(self) -> bool:
        return self.by == "sensitivity"

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        ranked = evidence.sizes(self.magnitude) if self.by == "sensitivity" else evidence.sigma
        gains = np.zeros_like(evidence.sigma)
        kept = np.argsort(-ranked, axis=1, kind="stable")[:, : self.keep]
        np.put_along_axis(gains, kept, 1.0, axis=1)
        return gains


@dataclass(frozen=True)
class Identity(Knobbed):
    """αₖ = 1: the unedited adapter."""

    name: ClassVar[str] = "identity"
    title: ClassVar[str] = "Leave every component as it is"
    needs_gradient: ClassVar[bool] = False

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        return np.ones_like(evidence.sigma)


CONTROLS = (RandomIndex, Scale, Truncate, Identity)
