"""How stable sensitivities are at smaller calibration budgets (paper §5.4, the axis of Table 4).

Every example's own gₖ is kept, so a smaller budget is the head of the slice: no other pass is needed.
What is compared are rankings inside a module, because policies act on them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.sensitivity.sensitivity import Sensitivity

# the share of components that the paper's gates call core
_TOP = 0.2


@dataclass(frozen=True)
class Budget:
    """How stable the ranking of components is at a calibration budget; means over modules.

    `magnitude` and `signed` are Spearman's rank correlations of mean |g| and of the signed mean over
    the first `examples` with those over all examples; `top` is the share of the 20 % of components
    largest by mean |g| that stay the same. These reach 1 by construction as the budget reaches all.
    The `half_` ones compare the first half of the budget with the second, which share no example: what
    another draw of half as many examples would change. NaN where no module has a ranking, and for
    halves of a single example. `modules` counts those that have one.
    """

    examples: int
    magnitude: float
    signed: float
    top: float
    half_magnitude: float
    half_signed: float
    half_top: float
    modules: int


def budgets(sensitivity: Sensitivity, sizes: tuple[int, ...] = (32, 64, 128, 256)) -> tuple[Budget, ...]:
    """Stability at every size the measurement reaches, from its first examples (axis of the paper's Table 4).

    Without another pass: a smaller budget is the head of the slice. Modules whose components all tie,
    those with one component and those with a g that is not finite have no ranking and do not count.
    """
    modules = [g for g in sensitivity.values.values() if g.shape[1] > 1 and np.isfinite(g).all() and g.any()]
    found = []
    for n in sorted({size for size in sizes if 1 <= size <= sensitivity.examples}):
        half = n // 2
        magnitude, signed, top = _means([_agreement(g[:n], g) for g in modules])
        halves = _means([_agreement(g[:half], g[half : 2 * half]) for g in modules if half])
        found.append(Budget(n, magnitude, signed, top, *halves, len(modules)))
    return tuple(found)


def _agreement(few: Float64[ndarray, "_ rank"], others: Float64[ndarray, "_ rank"]) -> tuple[float, float, float]:
    """Spearman of mean |g|, Spearman of mean g, and the share in common of the top 20 % by mean |g|."""
    sizes = [np.abs(g).mean(axis=0) for g in (few, others)]
    count = max(1, round(_TOP * few.shape[1]))
    first, second = (set(np.argsort(-size, kind="stable")[:count].tolist()) for size in sizes)
    signed = float(rank_correlation(few.mean(axis=0), others.mean(axis=0)))
    return float(rank_correlation(*sizes)), signed, len(first & second) / count


def rank_correlation(
    left: Float64[ndarray, "*draw item"], right: Float64[ndarray, "*draw item"]
) -> Float64[ndarray, "*draw"]:
    """Spearman's correlation of ranks along the last axis, where ties share the mean of their ranks; NaN where all tie."""
    x, y = (_centred_ranks(values) for values in (left, right))
    scale = np.sqrt((x**2).sum(axis=-1) * (y**2).sum(axis=-1))
    products = (x * y).sum(axis=-1)
    found: ndarray = np.divide(products, scale, out=np.full(scale.shape, np.nan), where=scale > 0)
    return found


def _centred_ranks(values: Float64[ndarray, "*draw item"]) -> Float64[ndarray, "*draw item"]:
    own, others = values[..., :, np.newaxis], values[..., np.newaxis, :]
    rank = (own > others).sum(axis=-1) + (own == others).sum(axis=-1) / 2
    centred: ndarray = rank - rank.mean(axis=-1, keepdims=True)
    return centred


def _means(rows: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Column by column over the rows that have a number there."""
    columns = [column[~np.isnan(column)] for column in np.array(rows).reshape(-1, 3).T]
    magnitude, signed, top = (float(column.mean()) if column.size else float("nan") for column in columns)
    return magnitude, signed, top
