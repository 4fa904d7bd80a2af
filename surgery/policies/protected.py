"""A natural-gradient step that spares other slices (ours, not the paper's).

The step minimises ḡ·δ + ½ δᵀ(F + λI)δ of the target slice, plus μ times, for every protected slice P,
max(0, ḡ_P·δ) + ½ δᵀ(F_P + λ_P I)δ. F = GᵀG/n is a slice's empirical Fisher information of σ, and λ is `damping` times
its mean non-zero eigenvalue, so that the step changes with μ without a leap from μ = 0. Everything that is asked
on the way is a product with some example's g: systems have the size of all examples, not of the components.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import lsq_linear

from surgery.errors import PolicyError
from surgery.policies.evidence import Evidence
from surgery.policies.knobs import Knobbed, knob

_CALIBRATE = "measure one with surgery calibrate, and keep it beside: --protected FILE, or on the Spectra page"
_RUNGS, _HALVINGS = 16, 12


@dataclass(frozen=True)
class ProtectedSlice:
    """What a step is to know of a slice that it is not to hurt.

    `g` are its per-example sensitivities; `label_free` says that their mean is zero in exact arithmetic, as where the
    answers are the model's own. `tokens` is the mean number of answer tokens, NaN where unknown.
    """

    g: Float64[ndarray, "component example"]
    label_free: bool = False
    tokens: float = float("nan")


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
        self,
        sigma: Float64[ndarray, " component"],
        g: Float64[ndarray, "component example"],
        protected: Sequence[ProtectedSlice] = (),
    ) -> Float64[ndarray, " component"]:
        """αₖ of all components in scope, module after module."""
        if not protected:
            raise PolicyError("policy protected has no slice to protect", _CALIBRATE)
        if self.limited and not all(np.isfinite(slice_.tokens) for slice_ in protected):
            raise PolicyError(
                "the bound on a protected slice counts its answer tokens, and this file does not tell them",
                "measure the slice again, or switch limited off",
            )
        slices = StackedSlices.of(g, protected)
        step = slices.direction(self._step(slices))
        gains = 1 + np.divide(step, sigma, out=np.zeros_like(sigma), where=sigma > 0)
        return np.maximum(gains, 0.0)  # a strength cannot turn its direction round

    def _step(self, slices: "StackedSlices") -> Float64[ndarray, " example"]:
        """The step's coefficients: at the least μ from its own up that keeps the limit."""
        step = self.eta * slices.solve(self.mu, self.damping)
        if not self.limited or slices.keeps(step, self.limit):
            return step
        low, high = self.mu, max(self.mu, 1e-3)
        for _ in range(_RUNGS):
            low, high = high, 4 * high
            step = self.eta * slices.solve(high, self.damping)
            if slices.keeps(step, self.limit):
                break
        else:
            return slices.shortened(step, self.limit)
        for _ in range(_HALVINGS):  # the end that keeps the limit stays in hand
            middle = (low + high) / 2
            tried = self.eta * slices.solve(middle, self.damping)
            if slices.keeps(tried, self.limit):
                high, step = middle, tried
            else:
                low = middle
        return step


@dataclass(frozen=True)
class StackedSlices:
    """The target's examples and those of all protected slices side by side: a step is a combination of their g.

    `slices` holds the columns of each slice in `g`, the target first; `label_free` and `tokens` are of the protected
    ones.
    """

    g: Float64[ndarray, "component example"]
    slices: tuple[slice, ...]
    label_free: tuple[bool, ...]
    tokens: tuple[float, ...]

    @staticmethod
    def of(target: Float64[ndarray, "component example"], protected: Sequence[ProtectedSlice]) -> "StackedSlices":
        """One stack; a component that no finite gradient reached in one of them does not move."""
        parts = [target, *(slice_.g for slice_ in protected)]
        finite = np.all([np.isfinite(part).all(axis=1) for part in parts], axis=0)
        # sums in one order, so that the order of the examples moves no bit
        ordered = [_ordered(np.where(finite[:, np.newaxis], part, 0.0)) for part in parts]
        ends = np.cumsum([0, *(part.shape[1] for part in parts)]).tolist()
        return StackedSlices(
            np.concatenate(ordered, axis=1),
            tuple(map(slice, ends, ends[1:])),
            tuple(slice_.label_free for slice_ in protected),
            tuple(slice_.tokens for slice_ in protected),
        )

    @cached_property
    def kernel(self) -> Float64[ndarray, "example example"]:
        """GᵀG of all examples."""
        return self.g.T @ self.g

    @cached_property
    def means(self) -> Float64[ndarray, "example slice"]:
        """The mean g of every slice as a combination of examples: nothing where it is zero by construction."""
        means = np.zeros((self.g.shape[1], len(self.slices)))
        for place, (columns, free) in enumerate(zip(self.slices, (False, *self.label_free), strict=True)):
            means[columns, place] = 0.0 if free else 1 / (columns.stop - columns.start)
        return means

    @cached_property
    def _towards_means(self) -> Float64[ndarray, "example slice"]:
        return self.kernel @ self.means

    @cached_property
    def eigenvalues(self) -> tuple[float, ...]:
        """The mean non-zero eigenvalue of each slice's F."""
        diagonal, found = np.diagonal(self.kernel), []
        for columns in self.slices:
            n = columns.stop - columns.start
            rank = min(n, max(int(self.g[:, columns].any(axis=1).sum()), 1))
            found.append(float(diagonal[columns].sum() / n / rank))
        return tuple(found)

    def solve(self, mu: float, damping: float) -> Float64[ndarray, " example"]:
        """Coefficients a of the step δ = G·a before its size η, by Woodbury's identity."""
        weights = np.empty(self.g.shape[1])
        for place, columns in enumerate(self.slices):
            weights[columns] = (mu if place else 1.0) / (columns.stop - columns.start)
        damp = damping * (self.eigenvalues[0] + mu * sum(self.eigenvalues[1:]))
        if damp == 0:
            return np.zeros(weights.size)
        root = np.sqrt(weights)
        system = root[:, np.newaxis] * self.kernel * root
        system[np.diag_indices_from(system)] += damp
        inner = cho_solve(cho_factor(system), root[:, np.newaxis] * self._towards_means)
        towards = (self.means - root[:, np.newaxis] * inner) / damp
        gram = self._towards_means.T @ towards
        return -towards @ np.concatenate([[1.0], multipliers(gram[1:, 1:], gram[1:, 0], mu)])

    def direction(self, step: Float64[ndarray, " example"]) -> Float64[ndarray, " component"]:
        """δ of a step's coefficients."""
        return self.g @ step

    def expected(self, step: Float64[ndarray, " example"]) -> tuple[tuple[float, float], ...]:
        """ḡ_P·δ and T/2·mean((g_P·δ)²) of every protected slice, in nats per answer token."""
        along = self.kernel @ step
        return tuple(
            (float(self.means[:, place + 1] @ along), tokens / 2 * float((along[columns] ** 2).mean()))
            for place, (columns, tokens) in enumerate(zip(self.slices[1:], self.tokens, strict=True))
        )

    def keeps(self, step: Float64[ndarray, " example"], limit: float) -> bool:
        """Whether no protected slice is expected to lose more than `limit`."""
        return all(slope + bend <= limit for slope, bend in self.expected(step))

    def shortened(self, step: Float64[ndarray, " example"], limit: float) -> Float64[ndarray, " example"]:
        """The longest part of a step, at most the whole, that keeps the limit."""
        share = 1.0
        for slope, bend in self.expected(step):
            if slope + bend > limit:  # the root of bend·s² + slope·s = limit, in the form that cancels nothing
                root = np.sqrt(slope**2 + 4 * bend * limit)
                share = min(share, 2 * limit / (slope + root) if slope > 0 else (root - slope) / (2 * bend))
        # a hair shorter, so that rounding does not pass the limit
        return step * share * (1 - 1e-12)


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


def _ordered(g: Float64[ndarray, "component example"]) -> Float64[ndarray, "component example"]:
    examples = np.ascontiguousarray(g.T)
    order = sorted(range(len(examples)), key=[example.tobytes() for example in examples].__getitem__)
    return g[:, order]


SPARING = (Protected,)
