"""What an edit would be at every step of one knob, computed at once, so that a slider can be followed.

The policies are the only place where gains are computed: a page that repaints while a knob is dragged
reads this table.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.edits.edit import Edit
from surgery.edits.expectation import Expectation, expected, expected_from
from surgery.edits.fold_edits import fold_edits
from surgery.edits.grid import grid_of, with_knobs
from surgery.edits.group_knobs import group_knobs, is_group_knob, with_group
from surgery.edits.layer_groups import LayerGroups, grouped
from surgery.edits.plan import EditPlan
from surgery.edits.preview import Preview, preview, summary
from surgery.edits.strength import STRENGTH, with_strength
from surgery.errors import PolicyError
from surgery.policies import Knob, ScopePolicy, knobs_of
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra

# what a browser takes in at once, and how often a whole scope is solved while a person waits
_CELLS = 400_000
_SCOPE_ROWS = 26
# components × folds × steps that are computed while a person waits; to scale an edit costs a fraction of a new one
_FOLD_CELLS, _SCALED_CELLS = 600_000, 2_000_000


@dataclass(frozen=True)
class KnobTable:
    """Gains of every component in scope, module after module, and the preview numbers, at each value.

    The values are every `stride`-th step of the knob.

    A row of NaN gains and None for its numbers mark a value that the policy refuses. `expectations` are there for
    some of the values, evenly spread, and None for the others.
    """

    knob: str
    values: Float64[ndarray, " step"]
    stride: int
    gains: Float64[ndarray, "step component"]
    numbers: tuple[Preview | None, ...]
    expectations: tuple[Expectation | None, ...]


def knob_table(spectra: Spectra, plan: EditPlan, knob: str, sensitivity: Sensitivity | None) -> KnobTable:
    """The edit at every step of a knob's range, one table for the whole of it; a switch has two steps.

    spectra: of all modules, by name.
    plan: the edit that the knob belongs to.
    knob: one of the plan's policy, `strength`, or one of a layer group.
    sensitivity: gₖ by example and component, where it is measured.

    Raises `PolicyError` for a knob that has no range, and where the plan itself cannot be applied.
    """
    edit = plan.apply(spectra, sensitivity)
    found = _sliding(plan, knob, group_knobs(spectra, edit.modules))
    size = edit.scalars
    grid = grid_of(found, max(spectra[name].rank for name in spectra) if found.components else None)
    scaled = found is STRENGTH or (is_group_knob(knob) and not plan.protect)
    solved = isinstance(plan.policy, ScopePolicy) and not scaled
    rows = _SCOPE_ROWS if solved else max(2, _CELLS // max(size, 1))
    every = max(1, -(-(grid.last + 1) // rows))
    values = [grid.value(step) for step in range(0, grid.last + 1, every)]
    at = (_scaled if scaled else _edits)(spectra, plan, knob, sensitivity)
    told = _told(_SCALED_CELLS if scaled else _FOLD_CELLS, len(values), size, sensitivity)
    gains = np.full((len(values), size), np.nan)
    numbers: list[Preview | None] = []
    expectations: list[Expectation | None] = []
    for row, value in enumerate(values):
        try:
            edit, expectation = at(value, row % told == 0)
        except PolicyError:
            numbers.append(None)
            expectations.append(None)
            continue
        gains[row] = end_to_end(edit)
        numbers.append(preview(edit, sensitivity) or summary(edit))
        expectations.append(expectation)
    return KnobTable(knob, np.array(values, dtype=np.float64), every, gains, tuple(numbers), tuple(expectations))


_At = Callable[[float, bool], tuple[Edit, Expectation | None]]


def _sliding(plan: EditPlan, knob: str, groups: Iterable[Knob]) -> Knob:
    found = {each.name: each for each in (STRENGTH, *knobs_of(plan.policy), *groups)}.get(knob)
    if found is None or not (found.slides or found.kind is bool):
        raise PolicyError(f"policy {plan.policy.name} has no knob {knob!r} with a range", "choose a sliding knob")
    return found


def _told(cells: int, steps: int, size: int, sensitivity: Sensitivity | None) -> int:
    """Every how many steps an expectation is worked out."""
    folds = 1 if sensitivity is None or sensitivity.folds is None else len(sensitivity.folds.held)
    return max(1, -(-steps // max(2, cells // max(size * folds, 1))))


def _edits(spectra: Spectra, plan: EditPlan, knob: str, sensitivity: Sensitivity | None) -> _At:
    """The edit at a value of the knob, and what is expected of it where that is asked for."""

    def at(value: float, told: bool) -> tuple[Edit, Expectation | None]:
        turned = _turned(plan, knob, value)
        edit = turned.apply(spectra, sensitivity)
        return edit, expected(turned, spectra, sensitivity, edit) if told else None

    return at


def _scaled(spectra: Spectra, plan: EditPlan, knob: str, sensitivity: Sensitivity | None) -> _At:
    """The same for a strength or the gain of a layer group: neither the edit nor those of its folds are made again."""
    # what protects comes after the groups and before the strength: it is in the whole where the strength alone is turned
    grouped_last = knob != STRENGTH.name
    whole = replace(plan, strength=1.0, groups=LayerGroups() if grouped_last else plan.groups)
    edit = whole.apply(spectra, sensitivity)
    measured = sensitivity if preview(edit, sensitivity) is not None else None
    folds = fold_edits(whole, spectra, measured) if measured is not None else None

    def at(value: float, told: bool) -> tuple[Edit, Expectation | None]:
        turned = _turned(plan, knob, value)
        groups = turned.groups if grouped_last else LayerGroups()
        scaled = grouped(edit, groups, spectra, plan.sigma_min)
        present = with_strength(scaled, turned.strength, plan.sigma_min)
        if not told or measured is None:
            return present, None
        held = folds.grouped(groups, spectra, plan.sigma_min) if folds is not None else None
        held = held.at(turned.strength, plan.sigma_min) if held is not None else None
        return present, expected_from(held, measured, preview(present, measured))

    return at


def _turned(plan: EditPlan, knob: str, value: float) -> EditPlan:
    if knob == STRENGTH.name:
        return replace(plan, strength=value)
    return with_group(plan, knob, value) if is_group_knob(knob) else with_knobs(plan, {knob: value})


def end_to_end(edit: Edit) -> Float64[ndarray, " component"]:
    """The gains of all modules of an edit, module after module."""
    return np.concatenate([module.gains for module in edit.modules.values()])
