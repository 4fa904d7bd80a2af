"""Principal angles of one pair of modules; small ones from sines, because arccos is ill-conditioned near 1."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.errors import PolicyError
from surgery.spectra.alignment import DEFAULT_K, SIDES
from surgery.spectra.spectrum import Spectrum

_SHARED = 10


@dataclass(frozen=True)
class SharedCoordinate:
    """One coordinate of the space in both leading directions.

    `share` is the product of the entries over the leading directions' inner product: over all
    coordinates shares sum to 1, single ones may lie outside 0 … 1 and say little where the inner
    product is at the random level; NaN where it is 0.
    """

    coordinate: int
    left: float
    right: float
    share: float


@dataclass(frozen=True)
class ModulePair:
    """Principal angles and similarity of two modules that share the dimension compared.

    `cosines` of the k principal angles descend, `angles` are the same in degrees and ascend.
    `similarity` is |uᵢᵀuⱼ| of all components that are not null. `inner` is u₁ᵀu₁ with its sign, and
    `shared` the coordinates whose products contribute most to it, largest |product| first.
    """

    names: tuple[str, str]
    side: str
    dimension: int
    cosines: Float64[ndarray, " k"]
    angles: Float64[ndarray, " k"]
    similarity: Float64[ndarray, "left right"]
    inner: float
    shared: tuple[SharedCoordinate, ...]

    @property
    def overlap(self) -> float:
        return float(np.mean(self.cosines**2))


def pair_detail(left: Spectrum, right: Spectrum, *, k: int = DEFAULT_K, side: str = "output") -> ModulePair:
    """Principal angles between the leading k directions of two modules, and where their first ones agree.

    left: spectrum of the first module.
    right: spectrum of the second one.
    k: leading components compared.
    side: `output` (left singular vectors) or `input` (right ones).

    Angles are within 1e-13 degrees or so of exact for orthonormal directions, small ones included.
    Raises `PolicyError` for an unknown side, for modules whose dimensions differ, and for k outside
    1 … the smaller number of components that are not null.
    """
    if side not in SIDES:
        raise PolicyError(f"side {side!r} is not known", f"use one of {', '.join(SIDES)}")
    ours, theirs = (m.directions(side)[:, ~m.null] for m in (left, right))
    d, most = len(ours), min(ours.shape[1], theirs.shape[1])
    if len(theirs) != d:
        raise PolicyError(
            f"{left.name} and {right.name} have different {side} dimensions ({d} and {len(theirs)})",
            "compare modules that share the space",
        )
    if most == 0:
        raise PolicyError(
            f"{left.name if not ours.shape[1] else right.name} is a zero update and has no directions",
            "choose modules that were trained",
        )
    if not 1 <= k <= most:
        raise PolicyError(
            f"k = {k} is outside the {most} components that both modules have", f"choose k from 1 to {most}"
        )
    similarity = ours.T @ theirs
    cosines, angles = principal_angles(ours[:, :k], theirs[:, :k])
    inner = float(similarity[0, 0])
    shared = _shared(ours[:, 0], theirs[:, 0], inner)
    return ModulePair((left.name, right.name), side, d, cosines, angles, np.abs(similarity), inner, shared)


def principal_angles(
    left: Float64[ndarray, "d k"], right: Float64[ndarray, "d k"]
) -> tuple[Float64[ndarray, " k"], Float64[ndarray, " k"]]:
    """Cosines (descending) and degrees (ascending) between the spans of two orthonormal bases.

    Björck and Golub 1973: cosines are the singular values of C = LᵀR, sines those of R − L·C. Each
    angle is taken from whichever of the two changes more with it.
    """
    C = left.T @ right
    cosines = np.clip(np.linalg.svd(C, compute_uv=False), 0.0, 1.0)
    sines = np.clip(np.linalg.svd(right - left @ C, compute_uv=False)[::-1], 0.0, 1.0)
    radians = np.where(cosines**2 >= 0.5, np.arcsin(sines), np.arccos(cosines))
    return cosines, np.degrees(radians)


def _shared(
    left: Float64[ndarray, " d"], right: Float64[ndarray, " d"], inner: float
) -> tuple[SharedCoordinate, ...]:
    products = left * right
    largest = np.argsort(-np.abs(products), kind="stable")[:_SHARED]
    return tuple(
        SharedCoordinate(int(i), float(left[i]), float(right[i]), float(products[i] / inner) if inner else np.nan)
        for i in largest
    )
