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
from surgery.sensitivity import Folds, ScopeRows


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
    steps: ClassVar[tuple[str, ...]] = ("eta_suppress", "eta_enhance", "eta")

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
    defaults were chosen on the demos' tuning rows, with energy rule none, its usual one.
    """

    name: ClassVar[str] = "natural_gradient"
    title: ClassVar[str] = "Step along the natural gradient of the whole scope (ours)"
    needs_gradient: ClassVar[bool] = True
    # a rule that gives the step's size back undoes most of what it gains: on the demos under l1 all of it
    usual_energy: ClassVar[str] = "none"
    steps: ClassVar[tuple[str, ...]] = ("eta", "damping")

    eta: float = knob(0.1, "size of the step", low=0.0, high=1.0, step=0.01)
    damping: float = knob(
        0.3, "trust in the curvature: small values follow it, large ones ignore it", low=0.05, high=10.0, step=0.05
    )

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        raise PolicyError("natural_gradient works on a whole scope", "apply it with make_edit")

    def gains_in_scope(
        self, sigma: Float64[ndarray, " component"], rows: ScopeRows, folds: Folds | None = None
    ) -> Float64[ndarray, "fold component"]:
        """αₖ of all components in scope, module after module, from the training examples of every fold.

        Without folds there is one row, from all examples.
        """
        steps = _natural_steps(rows, self.damping, folds)
        gains = 1 - np.divide(self.eta * steps, sigma, out=np.zeros_like(steps), where=sigma > 0)
        return np.maximum(gains, 0.0)  # a strength cannot turn its direction round


def _natural_steps(rows: ScopeRows, damping: float, folds: Folds | None) -> Float64[ndarray, "fold component"]:
    """(F + λI)⁻¹ḡ of the training examples of every fold.

    By the push-through identity it is G·x with (GᵀG + nλI)·x = 1, a system of the examples' size. Where examples h
    are held out it is solved on the others with the same eigenvectors: x = M⁻¹(1 − E_h·z), with z such that x_h = 0.
    """
    held = rows.held(folds) if folds is not None else np.zeros((1, rows.examples), dtype=bool)
    reached = rows.statistics(folds).magnitude if folds is not None else np.abs(rows.g).max(axis=1)[np.newaxis]
    live = np.maximum((reached > 0).sum(axis=1), 1)
    values, vectors = rows.eigen
    ones, squares = vectors.sum(axis=0), np.diagonal(rows.kernel)
    x = np.zeros((rows.examples, len(held)))
    for fold, out in enumerate(held):
        n = int((~out).sum())
        # nλ, with λ `damping` times the mean non-zero eigenvalue of F
        damp = damping * squares[~out].sum() / min(n, live[fold])
        if damp == 0:
            continue
        weights, right, apart = 1 / (values + damp), ones, vectors[out]
        if folds is not None:
            right = ones - np.linalg.solve((apart * weights) @ apart.T, apart @ (weights * ones)) @ apart
        x[:, fold] = np.where(out, 0.0, vectors @ (weights * right))
    steps: ndarray = x.T @ rows.g.T
    return steps


STEPS = (GradDirection, NaturalGradient)
