"""The cut of rank: αₖ = 1 for the components that are kept and 0 for the rest, so that the factors can be smaller.

Two choices make a picker: the number that a component is kept for (`by`), and where the line is drawn (`cut`). Kept
values are not rescaled. U has orthonormal columns, so E‖ΔWx − ΔW′x‖² of a cut is Σσ²q over what was left out: with the
directions as they are, σ²q is the best that can be known of the inputs, whatever their correlations. Correlations
count only where directions may turn, as `surgery.edits.activation_cuts` turns them.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float64, Int
from numpy import ndarray
from scipy.special import entr

from surgery.policies.evidence import Evidence
from surgery.policies.knobs import Knobbed, knob, magnitude_knob

CUTS = ("fixed", "para", "energy", "effective", "knee")
SCORES = ("sigma", "functional", "gradient", "sensitivity")
_SHARED = ("para", "energy")


@dataclass(frozen=True)
class Rank(Knobbed):
    """Keep the components that matter and cut the rest, each module at a rank of its own, down to 0.

    by: `sigma` counts σ², `functional` σ²q, what the component does to the inputs that were measured, `gradient` |σ·ḡ|,
    the first-order change of the loss without it (GRASP), `sensitivity` mean |g| or |mean g|.
    cut: `fixed` keeps the leading `keep` of every module; `para` finds one threshold for the whole scope that keeps a
    share of the total (ε-PARA, arXiv 2604.27796); `energy` keeps the share module by module; `effective` keeps exp of
    the entropy of the sizes, rounded up; `knee` what stands before the largest sag of the sorted sizes below their
    chord. Sizes are σ, σ√q and the two sensitivities themselves.
    """

    name: ClassVar[str] = "rank"
    usual_energy: ClassVar[str] = "none"
    title: ClassVar[str] = "Cut the rank: keep the components that matter"

    cut: str = knob(
        "fixed",
        "where the line is drawn: a fixed rank, one threshold for the whole scope (para), a share of every module "
        "(energy), the effective rank, or the knee",
        choices=CUTS,
    )
    keep: int = knob(
        8, "components kept in every module", low=0, high=256, step=1, components=True, when=("cut", "fixed")
    )
    share: float = knob(0.95, "share that is kept", low=0.0, high=1.0, step=0.005, when=("cut", _SHARED))
    by: str = knob("sigma", "what ranks the components", choices=SCORES)
    magnitude: str = magnitude_knob(when=("by", "sensitivity"))

    @property
    def needs_gradient(self) -> bool:
        return self.by in ("gradient", "sensitivity")

    @property
    def needs_q(self) -> bool:
        return self.by == "functional"

    @property
    def pools(self) -> bool:
        return self.cut == "para"

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        return self.kept(self.sizes(evidence)).astype(np.float64)

    def sizes(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        """What each component is ranked by, in the units of σ where its square counts; 0 where it is not known."""
        if self.by == "sigma":
            return evidence.sigma
        if self.by == "sensitivity":
            return np.nan_to_num(evidence.sizes(self.magnitude), posinf=0.0)
        measured = np.sqrt(evidence.q) if self.by == "functional" else np.abs(evidence.signed)
        with np.errstate(over="ignore"):
            found = evidence.sigma * np.nan_to_num(measured, posinf=0.0)
        return np.minimum(found, np.finfo(np.float64).max)

    def kept(self, sizes: Float64[ndarray, "module rank"]) -> Bool[ndarray, "module rank"]:
        """Which components of each row stay; of equal ones the first, but for a share, which keeps all of them."""
        order = np.argsort(-sizes, axis=1, kind="stable")
        falling = np.take_along_axis(sizes, order, axis=1)
        counts = self._counts(falling)
        if self.cut in _SHARED:
            # what equals the last one that is kept stays too: no order decides between them
            last = np.take_along_axis(falling, np.maximum(counts - 1, 0)[:, np.newaxis], axis=1)
            tied: ndarray = (sizes >= last) & (sizes > 0) & (counts > 0)[:, np.newaxis]
            return tied
        kept = np.zeros(sizes.shape, dtype=np.bool_)
        np.put_along_axis(kept, order, np.arange(sizes.shape[1]) < counts[:, np.newaxis], axis=1)
        return kept

    def _counts(self, falling: Float64[ndarray, "module rank"]) -> Int[ndarray, " module"]:
        if self.cut == "fixed":
            return np.full(len(falling), self.keep)
        if self.cut == "effective":
            return _effective(falling)
        if self.cut == "knee":
            return _before_the_knee(falling)
        return _for_share(_relative(falling) ** (1 if self.needs_gradient else 2), self.share)


def _for_share(falling: Float64[ndarray, "module rank"], share: float) -> Int[ndarray, " module"]:
    """How many leading values hold a share of each row's sum; 0 for a share of 0 and for a row of zeros."""
    if share == 1:  # what rounding loses of the sum is not to cost a component
        return (falling > 0).sum(axis=1)
    sums = np.cumsum(falling, axis=1)
    total = sums[:, -1:]
    enough = (sums < share * total).sum(axis=1) + 1
    return np.where((total[:, 0] > 0) & (share > 0), enough, 0)


def _effective(falling: Float64[ndarray, "module rank"]) -> Int[ndarray, " module"]:
    """exp of the entropy of each row, rounded up; a hair above a whole number is that number."""
    relative = _relative(falling)
    total = relative.sum(axis=1, keepdims=True)
    rank = np.exp(entr(relative / np.where(total > 0, total, 1.0)).sum(axis=1))
    return np.where(total[:, 0] > 0, np.ceil(rank * (1 - 1e-12)), 0).astype(np.int64)


def _before_the_knee(falling: Float64[ndarray, "module rank"]) -> Int[ndarray, " module"]:
    """How many stand before the value that lies furthest below the chord from the first to the last positive one.

    A row that sags nowhere keeps all that is positive.
    """
    relative = _relative(falling)
    count = (relative > 0).sum(axis=1)
    at = np.arange(falling.shape[1])
    last = np.take_along_axis(relative, np.maximum(count - 1, 0)[:, np.newaxis], axis=1)
    slope = (last - relative[:, :1]) / np.maximum(count - 1, 1)[:, np.newaxis]
    sag = np.where(at < count[:, np.newaxis], relative[:, :1] + slope * at - relative, 0.0)
    # a straight row sags by rounding alone
    return np.where(sag.max(axis=1) > 1e-12, sag.argmax(axis=1), count)


def _relative(falling: Float64[ndarray, "module rank"]) -> Float64[ndarray, "module rank"]:
    """Each row over its first value, because sums and squares of the values themselves may overflow."""
    top = falling[:, :1]
    return falling / np.where(top > 0, top, 1.0)


RANKS = (Rank,)
