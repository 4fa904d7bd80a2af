"""The step of a policy that is expected to lower the loss on held-out rows the most.

The lowest expected change plus one standard error, so that of steps that promise alike the surer one is taken. It is
chosen by the same examples that judge it, so what it promises is a little too good.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from surgery.edits.expectation import Expectation, expected, expected_from
from surgery.edits.fold_edits import fold_edits
from surgery.edits.grid import Grid, grid_of, with_knobs
from surgery.edits.plan import EditPlan
from surgery.edits.strength import STRENGTH
from surgery.errors import PolicyError
from surgery.policies import knob_values, knobs_of
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra

_COARSE, _FEW = 6, 3  # values of a knob that are tried first; of a scope so large that each takes long
_LARGE = 10_000  # components
_ROUNDS = 6  # of steps to a neighbour
_NEAR = (0.7, 0.85, 1.2, 1.45)  # neighbours of a value


@dataclass(frozen=True)
class BestStep:
    """The plan with the best step found, what is expected of it, and how many were compared."""

    plan: EditPlan
    expectation: Expectation
    tried: int


def best_step(plan: EditPlan, spectra: Spectra, sensitivity: Sensitivity | None) -> BestStep:
    """The plan with those knobs that are steps of its policy, and its strength, set to the best that is expected.

    plan: the edit; everything but steps and strength stays.
    spectra: of all modules, by name.
    sensitivity: gₖ by example and component.

    A coarse grid over the knobs, then steps to better neighbours, then the strength. Raises `PolicyError` where
    nothing is measured, and where no step is expected to help.
    """
    search = _Search(spectra, sensitivity)
    whole = replace(plan, strength=1.0)
    grids = _grids(plan)
    if grids:
        large = sum(spectra[name].rank for name in whole.apply(spectra, sensitivity).modules) > _LARGE
        search.compare(_coarse(whole, grids, _FEW if large else _COARSE))
        for _ in range(_ROUNDS):
            if not search.compare(_neighbours(search.best or whole, grids)):
                break
    search.strengths(search.best or whole)
    if search.best is None or search.expectation is None or search.score >= 0:
        raise PolicyError(
            "no step of this policy is expected to lower the loss on held-out rows",
            "try another policy or scope, or calibrate on more rows",
        )
    return BestStep(search.best, search.expectation, search.tried)


class _Search:
    """The best plan so far, by expected change plus one standard error."""

    def __init__(self, spectra: Spectra, sensitivity: Sensitivity | None) -> None:
        if sensitivity is None:
            raise PolicyError(
                "no sensitivities are there to expect anything from", "calibrate on the Spectra page"
            )
        self.spectra, self.sensitivity = spectra, sensitivity
        self.best: EditPlan | None = None
        self.expectation: Expectation | None = None
        self.score, self.tried = float("inf"), 0
        self._known: set[str] = set()

    def compare(self, plans: Iterator[EditPlan]) -> bool:
        """Try plans that were not tried before; whether one of them is better."""
        before = self.score
        for plan in plans:
            key = repr(knob_values(plan.policy))
            if key not in self._known:
                self._known.add(key)
                try:
                    folds = fold_edits(plan, self.spectra, self.sensitivity)
                    self._take(plan, expected_from(folds, self.sensitivity))
                except PolicyError:  # steps so large that gains overflow
                    continue
        return self.score < before

    def strengths(self, plan: EditPlan) -> None:
        """Try every strength of a plan."""
        folds = fold_edits(plan, self.spectra, self.sensitivity)
        grid = grid_of(STRENGTH)
        for step in range(1, grid.last + 1):
            strength = float(grid.value(step))
            held = folds.at(strength, plan.sigma_min) if folds is not None else None
            self._take(replace(plan, strength=strength), expected_from(held, self.sensitivity))
        if self.best is not None:
            self.expectation = expected(self.best, self.spectra, self.sensitivity)

    def _take(self, plan: EditPlan, expectation: Expectation) -> None:
        self.tried += 1
        score = expectation.mean + expectation.standard_error
        if score < self.score:  # NaN is not
            self.best, self.expectation, self.score = plan, expectation, score


def _grids(plan: EditPlan) -> list[Grid]:
    values = knob_values(plan.policy)
    steps: tuple[str, ...] = getattr(plan.policy, "steps", ())
    return [grid_of(knob) for knob in knobs_of(plan.policy) if knob.name in steps and knob.matters(values)]


def _coarse(plan: EditPlan, grids: list[Grid], count: int) -> Iterator[EditPlan]:
    """Each knob from a fiftieth of its range up, evenly in its logarithm, and as it is."""
    columns: list[list[float]] = []
    for grid in grids:
        high = float(grid.value(grid.last))
        spread = np.geomspace(max(high / 50, grid.step), high, count)
        columns.append([float(grid.value(grid.nearest(value))) for value in spread])
    yield plan
    for row in product(*columns):
        yield _at(plan, grids, row)


def _neighbours(plan: EditPlan, grids: list[Grid]) -> Iterator[EditPlan]:
    """The plan with one knob a little lower or higher."""
    now: Mapping[str, float] = knob_values(plan.policy)
    for grid in grids:
        value = now[grid.knob.name]
        at = grid.nearest(value)
        for step in {at - 1, at + 1, *(grid.nearest(value * factor) for factor in _NEAR)} - {at}:
            if 0 <= step <= grid.last:
                yield with_knobs(plan, {grid.knob.name: grid.value(step)})


def _at(plan: EditPlan, grids: list[Grid], row: tuple[float, ...]) -> EditPlan:
    return with_knobs(plan, {grid.knob.name: value for grid, value in zip(grids, row, strict=True)})
