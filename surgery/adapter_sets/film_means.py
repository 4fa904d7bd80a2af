"""Means of a film over families, layers and cells of both, beside what random subspaces would give (paper §3.2)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from surgery.adapter_sets.film import Film, ModuleFilm
from surgery.errors import PolicyError
from surgery.spectra import DEFAULT_K, SIDES, expected_level, mean_chance_level, random_match_angles

FILM_MEASURES = ("last", "before", "angle", "norm", "effective_rank")
GROUPINGS = ("family", "layer", "cell")
_LEVEL = 0.01
_DRAWS = 4000
Group = tuple[str | None, int | None]


@dataclass(frozen=True)
class FilmMeans:
    """Means over groups of modules at every step; NaN where no module of a group has a value.

    A group is a family and a layer, None for all of them. `counts` are the modules that a mean is of. `random` is
    what independent random subspaces give in expectation (of an angle: its median), `chance` what their mean passes
    by luck in one case of a hundred: above it for an overlap, below it for an angle. `inside`, for overlaps, is what
    random k-dimensional subspaces of one space of the modules' rank r give, k/r: as much as factors that keep their
    span would keep, whatever their spectrum does. All are NaN for measures without such a reference.
    """

    groups: tuple[Group, ...]
    values: Float64[ndarray, "step group"]
    counts: Int64[ndarray, "step group"]
    random: Float64[ndarray, "step group"]
    chance: Float64[ndarray, "step group"]
    inside: Float64[ndarray, "step group"]


def film_values(
    module: ModuleFilm, measure: str, *, side: str = "output", k: int = DEFAULT_K
) -> Float64[ndarray, " step"]:
    """One measure of one module over the steps.

    module: of a film.
    measure: `last` or `before`, the overlap of the leading k directions with the last step's or the step before;
        `angle`, of component k with its match at the last step, in degrees, NaN where it is degenerate; `norm`, ‖ΔW‖_F; `effective_rank`.
    side: of the directions; norm and effective rank have none.
    k: directions compared, or which component, counted from 1.

    Raises `PolicyError` for an unknown measure or side, and a k below 1.
    """
    if measure not in FILM_MEASURES or side not in SIDES or k < 1:
        raise PolicyError(
            f"measure {measure!r} on side {side!r} at k = {k} is not known",
            f"use one of {', '.join(FILM_MEASURES)} on {' or '.join(SIDES)}, with k from 1",
        )
    if measure == "norm":
        return module.norm
    if measure == "effective_rank":
        return module.effective_rank
    if k > module.rank:
        return np.full(len(module.norm), np.nan)
    at = SIDES.index(side), slice(None), k - 1
    if measure == "angle":
        return np.where(module.degenerate[:, k - 1], np.nan, module.angles[at])
    values: Float64[ndarray, " step"] = (module.with_last if measure == "last" else module.with_before)[at]
    return values


def film_means(film: Film, measure: str, by: str, *, side: str = "output", k: int = DEFAULT_K) -> FilmMeans:
    """The means of a measure over the modules of each group, every module with the same weight.

    film: of a training.
    measure: see `film_values`.
    by: `family` (all its layers), `layer` (all its families) or `cell` (a family in a layer).
    side: of the directions.
    k: directions compared, or which component, counted from 1.

    Raises `PolicyError` for an unknown measure, side or grouping, and for a k below 1.
    """
    if by not in GROUPINGS:
        raise PolicyError(f"grouping {by!r} is not known", f"use one of {', '.join(GROUPINGS)}")
    groups: dict[Group, list[ModuleFilm]] = {}
    for module in film.modules.values():
        family, layer = module.family if by != "layer" else None, module.layer if by != "family" else None
        groups.setdefault((family, layer), []).append(module)
    order = list(dict.fromkeys(family for family, _ in groups))
    keys = sorted(groups, key=lambda group: (order.index(group[0]), inf if group[1] is None else group[1]))
    columns = [_mean(groups[key], measure, side, k) for key in keys]
    counts = np.stack([count for count, _ in columns], axis=1)
    values, random, chance, inside = np.stack([numbers for _, numbers in columns], axis=2)
    return FilmMeans(tuple(keys), values, counts, random, chance, inside)


def _mean(
    modules: Sequence[ModuleFilm], measure: str, side: str, k: int
) -> tuple[Int64[ndarray, " step"], Float64[ndarray, "number step"]]:
    """Counts, and mean, random, chance and inside of one group."""
    values = np.stack([film_values(module, measure, side=side, k=k) for module in modules])
    known = np.isfinite(values)
    counts = known.sum(axis=0, dtype=np.int64)
    found = np.full((4, counts.size), np.nan)
    total = np.where(known, values, 0.0).sum(axis=0)
    np.divide(total, counts, out=found[0], where=counts > 0)
    # mostly the same modules at every step
    patterns = {each.tobytes(): each for each in known.T} if measure in ("last", "before", "angle") else {}
    for there in patterns.values():
        if there.any():
            here = [module for module, known_there in zip(modules, there.tolist(), strict=True) if known_there]
            steps = (known == there[:, np.newaxis]).all(axis=0)
            found[1:, steps] = _null(here, measure, side, k)[:, np.newaxis]
    return counts, found


def _null(modules: Sequence[ModuleFilm], measure: str, side: str, k: int) -> Float64[ndarray, " number"]:
    """What random subspaces give on average, what their mean passes by luck, and the average inside of one span."""
    at = SIDES.index(side)
    if measure == "angle":
        shapes = tuple(sorted((*module.shape, module.matchable) for module in modules))
        return np.array([*_angle_null(shapes, at), np.nan])
    dimensions = [module.shape[at] for module in modules]
    expected = np.mean([expected_level(d, min(k, d), "overlap") for d in dimensions])
    spaces = tuple(sorted(Counter(dimensions).items()))
    inside = np.mean([k / module.rank for module in modules])
    return np.array([expected, mean_chance_level(spaces, k, "overlap", level=_LEVEL), inside])


@lru_cache(maxsize=4096)
def _angle_null(modules: tuple[tuple[int, int, int], ...], side: int) -> tuple[float, float]:
    """Median and lower quantile of the mean angle of random components with their best matches."""
    generator, total = np.random.default_rng(0), np.zeros(_DRAWS)
    for out, into, rank in modules:
        draws = random_match_angles((out, into), rank, draws=_DRAWS)[side]
        total += draws if len(modules) == 1 else generator.permutation(draws)
    mean = total / len(modules)
    return float(np.median(mean)), float(np.quantile(mean, _LEVEL))
