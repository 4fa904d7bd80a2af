"""Policies that step along the signed gradient of the calibration loss.

grad_direction is the paper's (§3.4, 4, Eq. 7) with the step sizes of the authors' released code,
because the paper's text does not give them; natural_gradient is this project's own.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.errors import PolicyError
from surgery.policies.evidence import Evidence, normalise
from surgery.policies.knobs import Knobbed, knob


def _step(default: float, help: str, *, asymmetric: bool) -> Any:
    return knob(default, help, low=0.0, high=8.0, step=0.1, when=("asymmetric", asymmetric))


@dataclass(frozen=True)
class GradDirection(Knobbed):
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


@dataclass(frozen=True)
class NaturalGradient(Knobbed):
    """σ′ = σ − η·(F + λI)⁻¹ḡ over all components in scope at once (ours, not the paper's).

    F = GᵀG/n, with G the calibration's (example, component) matrix, is the empirical Fisher information of
    σ: directions in which single examples pull hard, and against each other, move less. λ is `damping`
    times the mean non-zero eigenvalue of F. The gains of a module depend on the others in scope. The
    defaults were chosen on the demos' tuning rows, with energy rule none.
    """

    name: ClassVar[str] = "natural_gradient"
    title: ClassVar[str] = "Step along the natural gradient of the whole scope (ours; meant for energy rule none)"
    needs_gradient: ClassVar[bool] = True

    eta: float = knob(0.1, "size of the step", low=0.0, high=1.0, step=0.01)
    damping: float = knob(
        0.3, "trust in the curvature: small values follow it, large ones ignore it", low=0.05, high=10.0, step=0.05
    )

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        raise PolicyError("natural_gradient works on a whole scope", "apply it with make_edit")

    def gains_in_scope(
        self, sigma: Float64[ndarray, " component"], g: Float64[ndarray, "component example"]
    ) -> Float64[ndarray, " component"]:
        """αₖ of all components in scope, module after module."""
        n = g.shape[1]
        # a layer that no finite gradient reached neither moves nor bends the others' steps
        g = np.where(np.isfinite(g).all(axis=1, keepdims=True), g, 0.0)
        # sums in one order, so that the order of the examples moves no bit
        g = g[:, sorted(range(n), key=[example.tobytes() for example in g.T].__getitem__)]
        mean, kernel = g.mean(axis=1), g.T @ g / n
        damp = self.damping * np.trace(kernel) / min(n, max(int(g.any(axis=1).sum()), 1))
        if damp == 0:
            return np.ones_like(sigma)
        # by Woodbury's identity a system of the examples' size, not of the components'
        inner = np.linalg.solve(kernel + damp * np.eye(n), g.T @ mean / n)
        step = (mean - g @ inner) / damp
        gains = 1 - np.divide(self.eta * step, sigma, out=np.zeros_like(sigma), where=sigma > 0)
        return np.maximum(gains, 0.0)  # a strength cannot turn its direction round


STEPS = (GradDirection, NaturalGradient)
