"""Whether examples pull one way: cosines between their gradients in σ, and two groups of them where there are two.

That there is a common direction is held against gradients whose signs are turned at random. Two groups are told by how
much of the spread of the unit gradients two means explain, held against a normal cloud with the same variance along
every principal axis (Liu, Hayes, Nobel and Marron 2008, "SigClust"); a cloud that is merely long is no two groups.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy import ndarray

_TURNS, _CLOUDS = 999, 99
_SEED = 22
_MOST = 256  # examples that are compared, because clouds cost their square
_FEWEST = 8  # examples with a gradient, below which there is nothing to tell
_LEVEL = 0.05
_STEPS = 20  # of two means, which settle in fewer
_POWERS = 30


@dataclass(frozen=True, eq=False)
class Groups:
    """Two groups of examples: the mean cosine of pairs within and between them."""

    first: Bool[ndarray, " example"]
    within: float
    between: float


@dataclass(frozen=True, eq=False)
class Conflict:
    """How the gradients of examples stand to each other.

    `cosine` is the mean over all pairs and `by_chance` its 97.5 % quantile where the signs of whole gradients are
    random; `opposed` is the share of pairs with a negative cosine. `groups` are None unless two groups explain more of
    the spread than they do of all but 5 % of clouds without groups; `p` is the share of clouds, NaN where it was not
    asked. `compared` of the examples were: those with a gradient, 256 at most, and groups hold these alone.
    """

    cosine: float
    by_chance: float
    opposed: float
    p: float
    groups: Groups | None
    compared: Int64[ndarray, " compared"]

    @property
    def common(self) -> bool:
        """Whether there is a common direction beyond chance."""
        return self.cosine > self.by_chance


def conflict_of(kernel: Float64[ndarray, "example example"]) -> Conflict:
    """How gradients stand to each other, from their inner products GᵀG alone.

    All is NaN and without groups where fewer than eight examples have a gradient.
    """
    sizes = np.sqrt(np.diagonal(kernel))
    compared = np.flatnonzero(np.isfinite(sizes) & (sizes > 0))[:_MOST]
    if compared.size < _FEWEST:
        none = float("nan")
        return Conflict(none, none, none, none, None, compared)
    cosines = kernel[np.ix_(compared, compared)] / np.outer(sizes[compared], sizes[compared])
    rng = np.random.default_rng(_SEED)
    pairs = cosines[np.triu_indices(compared.size, 1)]
    signs = rng.choice([-1.0, 1.0], (_TURNS, compared.size))
    turned = (np.einsum("ti,ij,tj->t", signs, cosines, signs, optimize=True) - compared.size) / (2 * pairs.size)
    p, first = _two_groups(cosines, rng)
    groups = None
    if p <= _LEVEL:
        same = (first[:, np.newaxis] == first)[np.triu_indices(compared.size, 1)]
        groups = Groups(first, float(pairs[same].mean()), float(pairs[~same].mean()))
    chance = float(np.quantile(turned, 0.975))
    return Conflict(float(pairs.mean()), chance, float((pairs < 0).mean()), p, groups, compared)


def _two_groups(
    cosines: Float64[ndarray, "example example"], rng: np.random.Generator
) -> tuple[float, Bool[ndarray, " example"]]:
    """The share of clouds without groups that two means explain as well, and the two groups."""
    centred = cosines - cosines.mean(axis=0)
    values, vectors = np.linalg.eigh(centred - centred.mean(axis=1, keepdims=True))
    axes = np.sqrt(np.maximum(values, 0.0))
    left, first = _two_means(vectors * axes)
    clouds = [_two_means(rng.standard_normal(vectors.shape) * axes)[0] for _ in range(_CLOUDS)]
    return (1 + sum(cloud <= left for cloud in clouds)) / (1 + _CLOUDS), first


def _two_means(points: Float64[ndarray, "example axis"]) -> tuple[float, Bool[ndarray, " example"]]:
    """The share of the spread that two means leave, begun at the sides of the longest axis; and who is in the first."""
    points = points - points.mean(axis=0)
    along = points[:, -1]
    for _ in range(_POWERS):
        axis = points.T @ along
        along = points @ (axis / max(float(np.linalg.norm(axis)), np.finfo(np.float64).tiny))
    first = along > 0
    for _ in range(_STEPS):
        if first.all() or not first.any():
            break
        means = points[first].mean(axis=0), points[~first].mean(axis=0)
        nearer = ((points - means[0]) ** 2).sum(axis=1) < ((points - means[1]) ** 2).sum(axis=1)
        if (nearer == first).all():
            break
        first = nearer
    within = sum(
        float(part.var(axis=0).sum()) * len(part) for part in (points[first], points[~first]) if len(part)
    )
    total = float((points**2).sum())
    return (within / total if total > 0 else 1.0), first
