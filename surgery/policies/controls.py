"""Edits that others are compared with: random gates, plain rescaling, and none at all."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.files import digest
from surgery.policies.evidence import Evidence
from surgery.policies.gates import ThreeGates
from surgery.policies.knobs import Knobbed, knob


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
class Identity(Knobbed):
    """αₖ = 1: the unedited adapter."""

    name: ClassVar[str] = "identity"
    title: ClassVar[str] = "Leave every component as it is"
    needs_gradient: ClassVar[bool] = False

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        return np.ones_like(evidence.sigma)


CONTROLS = (RandomIndex, Scale, Identity)
