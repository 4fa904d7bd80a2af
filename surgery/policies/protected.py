"""A natural-gradient step that spares other slices (ours, not the paper's).

The step minimises ḡ·δ + ½ δᵀ(F + λI)δ of the target slice, plus μ times, for every protected slice P,
max(0, ḡ_P·δ) + ½ δᵀ(F_P + λ_P I)δ. F = GᵀG/n is a slice's empirical Fisher information of σ, and λ is `damping` times
its mean non-zero eigenvalue, so that the step changes with μ without a leap from μ = 0. Everything that is asked
on the way is a product with some example's g: systems have the size of all examples, not of the components.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import lsq_linear

from surgery.errors import PolicyError
from surgery.policies.evidence import Evidence
from surgery.policies.knobs import Knobbed, knob
from surgery.sensitivity import Folds, JointRows, ScopeRows, joint_training

_CALIBRATE = "measure one with surgery calibrate, and keep it beside: --protected FILE, or on the Spectra page"
_RUNGS, _HALVINGS, _LEAST = 16, 12, 1e-3


@dataclass(frozen=True)
class Protected(Knobbed):
    """σ′ = σ + η·δ with the δ that lowers the target's loss and pays μ for what it does to the protected slices.

    By duality δ = −[(F + μF_P) + (λ + μλ_P)I]⁻¹(ḡ + νḡ_P) with 0 ≤ ν ≤ μ: a slice that the step helps anyway has
    ν = 0, one that it would hurt has ν > 0. μ = 0 is natural_gradient. `limit` bounds the change that every protected
    slice is expected to see, ḡ_P·ηδ + T/2·mean((g_P·ηδ)²), by raising μ, and where that is not enough by a shorter
    step.
    """

    name: ClassVar[str] = "protected"
    title: ClassVar[str] = "Step along the natural gradient and spare the protected slices (ours)"
    needs_gradient: ClassVar[bool] = True
    usual_energy: ClassVar[str] = "none"
    needs_protected: ClassVar[bool] = True
    steps: ClassVar[tuple[str, ...]] = ("eta", "damping")

    eta: float = knob(0.1, "size of the step", low=0.0, high=1.0, step=0.01)
    damping: float = knob(
        0.3, "trust in the curvature: small values follow it, large ones ignore it", low=0.05, high=10.0, step=0.05
    )
    mu: float = knob(1.0, "weight of the protected slices against the target", low=0.0, high=20.0, step=0.1)
    limited: bool = knob(False, "bound what every protected slice is expected to lose")
    limit: float = knob(
        0.005, "the bound, in nats per answer token", low=0.0, high=0.2, step=0.001, when=("limited", True)
    )

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        raise PolicyError("protected works on a whole scope", "apply it with make_edit")

    def gains_in_scope(
        self, sigma: Float64[ndarray, " component"], rows: ScopeRows, folds: Folds | None = None
    ) -> Float64[ndarray, "fold component"]:
        """αₖ of all components in scope, module after module, from the training examples of every fold.

        Without folds there is one row, from all examples. The folds of the protected slices go with the target's, and
        what keeps the limit is found once, from all examples. Raises `PolicyError` without a protected slice.
        """
        if not rows.protected:
            raise PolicyError("policy protected has no slice to protect", _CALIBRATE)
        if self.limited and not all(np.isfinite(beside.tokens) for beside in rows.protected):
            raise PolicyError(
                "the bound on a protected slice counts its answer tokens, and this file does not tell them",
                "measure the slice again, or switch limited off",
            )
        mu, size = self.kept(rows.joint)
        parts = [rows.joint]
        if folds is not None:
            parts = [rows.joint.only(kept) for kept in joint_training(rows, rows.protected, folds)]
        steps = np.stack([size * (part.g @ sparing_step(part, mu, self.damping)) for part in parts])
        gains = 1 + np.divide(steps, sigma, out=np.zeros_like(steps), where=sigma > 0)
        return np.maximum(gains, 0.0)  # a strength cannot turn its direction round

    def kept(self, joint: JointRows) -> tuple[float, float]:
        """The least μ from its own up that keeps the limit, and the size of the step: less than η where no μ does."""

        def keeps(mu: float) -> bool:
            return _shortened(joint, self.eta * sparing_step(joint, mu, self.damping), self.limit) == 1

        if not self.limited or keeps(self.mu):
            return self.mu, self.eta
        low, high = self.mu, max(self.mu, _LEAST)
        for _ in range(_RUNGS):
            low, high = high, 4 * high
            if keeps(high):
                break
        else:
            step = self.eta * sparing_step(joint, high, self.damping)
            return high, self.eta * _shortened(joint, step, self.limit)
        for _ in range(_HALVINGS):  # the end that keeps the limit stays in hand
            middle = (low + high) / 2
            low, high = (low, middle) if keeps(middle) else (middle, high)
        return high, self.eta


def sparing_step(joint: JointRows, mu: float, damping: float) -> Float64[ndarray, " example"]:
    """Coefficients a of δ = G·a at η = 1, by Woodbury's identity a system of the examples' size.

    joint: the target's examples and those of the protected slices.
    mu: weight of the protected slices.
    damping: λ in mean non-zero eigenvalues, of the target and of the protected slices alike.
    """
    weights = np.empty(len(joint.kernel))
    for place, columns in enumerate(joint.slices):
        weights[columns] = (mu if place else 1.0) / (columns.stop - columns.start)
    damp = damping * (joint.eigenvalues[0] + mu * sum(joint.eigenvalues[1:]))
    if damp == 0:
        return np.zeros(weights.size)
    root = np.sqrt(weights)
    system = root[:, np.newaxis] * joint.kernel * root
    system[np.diag_indices_from(system)] += damp
    inner = cho_solve(cho_factor(system), root[:, np.newaxis] * joint.along_means)
    towards = (joint.means - root[:, np.newaxis] * inner) / damp
    gram = joint.along_means.T @ towards
    step: ndarray = -towards @ np.concatenate([[1.0], multipliers(gram[1:, 1:], gram[1:, 0], mu)])
    return step


def _shortened(joint: JointRows, step: Float64[ndarray, " example"], limit: float) -> float:
    """The largest share of a step, at most 1, that keeps the limit on every protected slice."""
    share = 1.0
    for slope, bend in joint.expected(step):
        if slope + bend > limit:  # the root of bend·s² + slope·s = limit, in the form that cancels nothing
            root = np.sqrt(slope**2 + 4 * bend * limit)
            found = 2 * limit / (slope + root) if slope > 0 else (root - slope) / (2 * bend)
            # a hair shorter, so that rounding does not pass the limit
            share = min(share, found * (1 - 1e-12))
    return share


def multipliers(
    gram: Float64[ndarray, "slice slice"], slopes: Float64[ndarray, " slice"], most: float
) -> Float64[ndarray, " slice"]:
    """ν in [0, most] that minimises ½ νᵀAν + bᵀν: the weights that the max rule gives to the slices.

    gram: A = ḡ_PᵀH⁻¹ḡ_P of the protected slices, positive semi-definite, b in its range.
    slopes: b = ḡ_PᵀH⁻¹ḡ of the target.
    most: μ; infinite for a bound that may cost anything.
    """
    found = np.zeros(slopes.size)
    scale = np.sqrt(np.diagonal(gram))
    live = scale > 0
    if most == 0 or not live.any():
        return found
    scale = scale[live]
    values, vectors = np.linalg.eigh(gram[np.ix_(live, live)] / np.outer(scale, scale))
    kept = values > values.max() * values.size * np.finfo(np.float64).eps
    roots = np.sqrt(values[kept])
    matrix = roots[:, np.newaxis] * vectors[:, kept].T
    wanted = -(vectors[:, kept].T @ (slopes[live] / scale)) / roots
    size = float(np.abs(wanted).max()) or 1.0
    bounds = (np.zeros(scale.size), most * scale / size)
    found[live] = lsq_linear(matrix, wanted / size, bounds, method="bvls", tol=1e-15).x * size / scale
    return np.clip(found, 0.0, most)


SPARING = (Protected,)
