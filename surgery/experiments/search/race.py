"""A paired race against the unedited adapter: a trial that is surely no better in anything need not be finished.

Optuna prunes by one objective only. Here a trial is stopped when it is dominated on every objective: worse beyond
doubt in each that is measured on rows, and no better in each that is not. The looks of a trial share one error rate.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.stats import t as student

from surgery.evaluation import mcnemar
from surgery.experiments.search.objectives import Objective

LEVEL = 0.05  # chance that a trial that is no worse in some objective is stopped at any of its looks
_FIRST = 8  # rows below which nothing is said of a trial
_LOOKS = 4


def looks(rows: int) -> tuple[int, ...]:
    """After how many of the rows a trial is looked at: doubling, the last time after all of them."""
    found = [rows]
    while len(found) < _LOOKS and found[0] // 2 >= _FIRST:
        found.insert(0, found[0] // 2)
    return tuple(found)


def dominated(
    objectives: Sequence[Objective],
    changes: Mapping[str, Float64[ndarray, " row"]],
    exact: Mapping[str, float],
    level: float,
) -> bool:
    """Whether a trial is worse than the unedited adapter in every objective, as far as its rows tell.

    objectives: of the search.
    changes: of each objective that is measured on rows, the paired change of the rows so far.
    exact: the change of each objective that needs no rows.
    level: one-sided error rate of this look, of each objective; the chance that all of them err is no larger.
    """
    return all(
        surely_worse(each, changes[each.name], level)
        if each.rows is not None
        else each.sign * exact[each.name] >= 0
        for each in objectives
    )


def surely_worse(objective: Objective, change: Float64[ndarray, " row"], level: float) -> bool:
    """Whether the mean of paired changes lies on the worse side beyond doubt.

    Right answers by McNemar's exact test, one-sided; all else by Student's t of the mean of the rows, of which equal
    changes say as little as one. Numbers that are not finite are worse than anything.
    """
    worse = objective.sign * change
    if not np.isfinite(worse).all():
        return True
    if objective.reading == "exact" and np.isin(worse, (-1.0, 0.0, 1.0)).all():
        found = mcnemar(np.maximum(worse, 0.0), np.maximum(-worse, 0.0))
        return found.lost > found.gained and found.p / 2 <= level
    if worse.size < 2:
        return False
    error = worse.std(ddof=1) / np.sqrt(worse.size)
    return bool(error > 0 and worse.mean() > student.ppf(1 - level, worse.size - 1) * error)
