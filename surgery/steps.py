"""Policies that step along the signed gradient of the calibration loss (paper §3.4, 4, Eq. 7).

The step sizes are those of the authors' released code: the paper's text does not give them.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.evidence import Evidence, normalise
from surgery.knobs import knob


def _step(default: float, help: str, *, asymmetric: bool) -> Any:
    return knob(default, help, low=0.0, high=8.0, step=0.1, when=("asymmetric", asymmetric))


@dataclass(frozen=True)
class GradDirection:
    """Multiplicative update against the signed gradient (§3.4, 4, Eq. 7).

    A positive g means that a larger σ raises the loss, so the gain falls below 1.
    """

    name: ClassVar[str] = "grad_direction"
    title: ClassVar[str] = "Step against the signed gradient"
    needs_gradient: ClassVar[bool] = True

    asymmetric: bool = knob(True, "treat the two signs differently")
    eta_suppress: float = _step(2.0, "step for components that raise the loss", asymmetric=True)
    eta_enhance: float = _step(0.2, "step for components that lower the loss", asymmetric=True)
    power: float = knob(
        1.0, "exponent of the suppressed part", low=0.1, high=4.0, step=0.1, when=("asymmetric", True)
    )
    eta: float = _step(0.2, "step of the symmetric form", asymmetric=False)

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        g = normalise(evidence.signed, "mean")
        if not self.asymmetric:
            return np.exp(-self.eta * g)
        harmful, helpful = np.maximum(g, 0.0), np.maximum(-g, 0.0)
        return np.exp(self.eta_enhance * helpful - self.eta_suppress * harmful**self.power)


STEPS = (GradDirection,)
