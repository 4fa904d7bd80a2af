"""An adapter's directions against those of the weight it adapts: intruder dimensions.

After Shuttleworth, Andreas, Torralba and Sharma, "LoRA vs Full Fine-tuning: An Illusion of
Equivalence" (arXiv 2410.21228), Algorithm 1: a singular vector of W + ΔW with a large singular value
is an intruder when its cosine with every singular vector of W is small. Full fine-tuning makes none.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from jaxtyping import Bool, Float, Float64, Int64
from numpy import ndarray

from surgery.errors import PolicyError
from surgery.spectra.random_subspaces import random_overlap
from surgery.spectra.spectrum import Spectrum

# the largest smaller side that is decomposed whole where only leading directions are asked for
_DENSE = 2048
_OVERSAMPLED = 32
_POWERS = 6
# singular values below this share of σ₁ have no left vector that the Gram matrix could tell
_SMALLEST = 1e-6


@dataclass(frozen=True)
class Directions:
    """Singular directions of a dense weight, σ descending; V is stored, never Vᵀ."""

    U: Float64[ndarray, "out m"]
    sigma: Float64[ndarray, " m"]
    V: Float64[ndarray, "in m"]


@dataclass(frozen=True)
class Capture:
    """Each component of an update against the top directions of its base weight.

    `output_cosine` is the largest |cosine| of uₖ with one of W's top `top` left singular vectors and
    `output_share` is ‖P_top uₖ‖², the share of uₖ that they span together, `output_random` = top/out
    what a random direction gives on average; `input_…` are the same for vₖ and the right ones. NaN
    for null components, whose directions are arbitrary.
    """

    name: str
    top: int
    output_cosine: Float64[ndarray, " rank"]
    output_share: Float64[ndarray, " rank"]
    output_random: float
    input_cosine: Float64[ndarray, " rank"]
    input_share: Float64[ndarray, " rank"]
    input_random: float


@dataclass(frozen=True)
class Intruders:
    """The left singular vectors of W + ΔW with the largest singular values `sigma`, against W's.

    `cosine` is the largest |cosine| with any left singular vector of W and `nearest` the index of
    that one, 0 for W's largest singular value. `component` is the component of the update that each
    vector is most parallel to and `component_cosine` how much: an intruder is close to one of them.
    """

    name: str
    sigma: Float64[ndarray, " n"]
    cosine: Float64[ndarray, " n"]
    nearest: Int64[ndarray, " n"]
    component: Int64[ndarray, " n"]
    component_cosine: Float64[ndarray, " n"]
    threshold: float

    @property
    def intruder(self) -> Bool[ndarray, " n"]:
        return self.cosine < self.threshold

    @property
    def count(self) -> int:
        return int(self.intruder.sum())


def capture(spectrum: Spectrum, weight: Float[ndarray, "out in"], *, top: int = 32, seed: int = 0) -> Capture:
    """How far an update runs along the top directions of its base weight W.

    spectrum: of the update.
    weight: W, output × input.
    top: leading directions of W.
    seed: of their randomised decomposition.

    Accuracy as in `leading_directions`. The largest of `top` random |cosines| is not `top`/d but about
    √(2·ln(top)/d): compare shares with the reference, not cosines. Raises `PolicyError` for a weight
    of another shape, zero or not finite, and for `top` outside 1 … its smaller side.
    """
    _check(spectrum, weight)
    base = leading_directions(weight, top, seed=seed)
    found = []
    for ours, theirs in ((spectrum.U, base.U), (spectrum.V, base.V)):
        cosines = np.abs(theirs.T @ ours)
        cosine, share = cosines.max(axis=0), np.clip((cosines**2).sum(axis=0), 0.0, 1.0)
        cosine[spectrum.null] = share[spectrum.null] = np.nan
        found += [np.clip(cosine, 0.0, 1.0), share, random_overlap(top, len(ours))]
    return Capture(spectrum.name, top, *found)


def find_intruders(
    spectrum: Spectrum,
    weight: Float[ndarray, "out in"],
    *,
    top: int = 10,
    threshold: float = 0.5,
    sigma: Float64[ndarray, " rank"] | None = None,
    seed: int = 0,
) -> Intruders:
    """Intruder dimensions: the left singular vectors of W + U·diag(σ)·Vᵀ that resemble no singular vector of W.

    spectrum: of the update.
    weight: W, output × input.
    top: leading singular vectors of W + ΔW looked at.
    threshold: the largest |cosine| below which one is an intruder, 0 … 1; the paper varies it, a higher one names more.
    sigma: edited values, one a component, in place of the spectrum's own.
    seed: of the randomised decomposition.

    W is decomposed whole, through the float64 Gram matrix of its smaller side: some 3 s at 2048 and half a minute
    at 4096 on one core. Where singular values of W are (nearly) degenerate, its vectors are arbitrary inside their
    space and cosines are low without meaning. W's vectors with σ below 1e-6·σ₁ are left out; a vector of W + ΔW
    along them counts as an intruder.

    Raises `PolicyError` as `capture` does, for σ of another shape and a threshold outside 0 … 1.
    """
    _check(spectrum, weight)
    strengths = spectrum.sigma if sigma is None else np.asarray(sigma, dtype=np.float64)
    if strengths.shape != spectrum.sigma.shape:
        raise PolicyError(
            f"{strengths.size} values of σ do not fit the {spectrum.rank} components of {spectrum.name!r}",
            "use an edit of this adapter",
        )
    if not 0 <= threshold <= 1:
        raise PolicyError(f"no cosine is below a threshold of {threshold!r}", "use a threshold from 0 to 1")
    base = _left_vectors(weight)
    kind = weight.dtype
    tuned = weight + (spectrum.U * strengths).astype(kind) @ spectrum.V.T.astype(kind)
    leading = leading_directions(tuned, top, seed=seed)
    cosines = np.abs(base.T @ leading.U)
    own = np.abs(spectrum.U.T @ leading.U)
    return Intruders(
        spectrum.name,
        leading.sigma,
        np.clip(cosines.max(axis=0), 0.0, 1.0),
        cosines.argmax(axis=0),
        own.argmax(axis=0),
        np.clip(own.max(axis=0), 0.0, 1.0),
        threshold,
    )


def leading_directions(weight: Float[ndarray, "out in"], top: int, *, seed: int = 0) -> Directions:
    """The `top` singular triplets of a dense weight.

    Whole through the Gram matrix for a smaller side up to 2048: vectors are exact to about
    1e-16·σ₁²/(σₖ·gap). Beyond, a seeded randomized range finder with oversampling and six power
    iterations (Halko, Martinsson and Tropp 2011, Algorithm 4.4). What it misses of direction k shrinks
    like (σ_{top+33}/σₖ)¹³: the leading ones are exact to float32, the last ones near `top` are mixed
    with those below the cut where the spectrum is flat. Raises `PolicyError` for `top` outside
    1 … the smaller side.
    """
    smaller = min(weight.shape)
    if not 1 <= top <= smaller:
        raise PolicyError(
            f"{top} leading directions were asked for of a weight of {weight.shape[0]} × {weight.shape[1]}",
            f"choose from 1 to {smaller}",
        )
    if smaller <= _DENSE or top + _OVERSAMPLED >= smaller:
        return _dense(weight, top)
    generator = np.random.default_rng(seed)
    basis = generator.standard_normal((weight.shape[1], top + _OVERSAMPLED)).astype(weight.dtype)
    for _ in range(_POWERS):
        basis = np.linalg.qr(weight.T @ np.linalg.qr(weight @ basis)[0])[0]
    Q = np.linalg.qr((weight @ basis).astype(np.float64))[0]
    left, sigma, right_t = np.linalg.svd(Q.T.astype(weight.dtype) @ weight, full_matrices=False)
    return Directions(
        Q @ left[:, :top].astype(np.float64), sigma[:top].astype(np.float64), right_t[:top].T.astype(np.float64)
    )


def _dense(weight: Float[ndarray, "out in"], top: int) -> Directions:
    tall = weight.shape[0] > weight.shape[1]
    W = (weight.T if tall else weight).astype(np.float64)
    sigma, near = _gram(W, top)
    # an orthonormal partner even where σ is zero and Wᵀu/σ is not a number
    far = np.linalg.qr(W.T @ near)
    partner = far.Q * np.where(np.diag(far.R) < 0, -1.0, 1.0)
    return Directions(partner, sigma, near) if tall else Directions(near, sigma, partner)


def _left_vectors(weight: Float[ndarray, "out in"]) -> Float64[ndarray, "out m"]:
    """All left singular vectors of W that belong to a σ above rounding, σ descending."""
    tall = weight.shape[0] > weight.shape[1]
    W = (weight.T if tall else weight).astype(np.float64)
    sigma, near = _gram(W, len(W))
    kept = sigma > _SMALLEST * sigma[0]
    return (W.T @ near[:, kept]) / sigma[kept] if tall else near[:, kept]


def _gram(W: Float64[ndarray, "m n"], top: int) -> tuple[Float64[ndarray, " k"], Float64[ndarray, "m k"]]:
    """The largest singular values, descending, and left vectors of W by the eigenvectors of WWᵀ."""
    m = len(W)
    some = {"driver": "evd"} if 4 * top >= m else {"driver": "evr", "subset_by_index": (m - top, m - 1)}
    squares, vectors = scipy.linalg.eigh(W @ W.T, overwrite_a=True, check_finite=False, **some)
    first = slice(-1, -top - 1, -1)
    return np.sqrt(np.clip(squares[first], 0.0, None)), vectors[:, first]


def _check(spectrum: Spectrum, weight: Float[ndarray, "out in"]) -> None:
    wanted = spectrum.shape
    if weight.shape != wanted:
        raise PolicyError(
            f"the weight is {weight.shape} and the update of {spectrum.name!r} is {wanted}",
            "use the weight of this module in the base model it was trained on",
        )
    if not (np.isfinite(weight).all() and weight.any()):
        raise PolicyError(
            f"the base weight of {spectrum.name!r} is zero or not finite, so it has no directions",
            "use an intact base model",
        )
