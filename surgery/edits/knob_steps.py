"""What an edit would be at every step of one knob, computed at once, so that a slider can be followed.

The policies are the only place where gains are computed: a page that repaints while a knob is dragged
reads this table.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.edits.edit import Edit
from surgery.edits.grid import grid_of, with_knobs
from surgery.edits.plan import EditPlan
from surgery.edits.preview import Preview, preview, summary
from surgery.errors import PolicyError
from surgery.policies import ScopePolicy, knobs_of
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra

# what a browser takes in at once, and how often a whole scope is solved while a person waits
_CELLS = 400_000
_SCOPE_ROWS = 26


@dataclass(frozen=True)
class KnobTable:
    """Gains of every component in scope, module after module, and the preview numbers, at each value.

    The values are every `stride`-th step of the knob.

    A row of NaN gains and None for its numbers mark a value that the policy refuses.
    """

    knob: str
    values: Float64[ndarray, " step"]
    stride: int
    gains: Float64[ndarray, "step component"]
    numbers: tuple[Preview | None, ...]


def knob_table(spectra: Spectra, plan: EditPlan, knob: str, sensitivity: Sensitivity | None) -> KnobTable:
    """The edit at every step of a knob's range, one table for the whole of it; a switch has two steps.

    spectra: of all modules, by name.
    plan: the edit that the knob belongs to.
    knob: one of the plan's policy.
    sensitivity: gₖ by example and component, where it is measured.

    Raises `PolicyError` for a knob that has no range, and where the plan itself cannot be applied.
    """
    found = {each.name: each for each in knobs_of(plan.policy)}.get(knob)
    if found is None or not (found.slides or found.kind is bool):
        raise PolicyError(f"policy {plan.policy.name} has no knob {knob!r} with a range", "choose a sliding knob")
    size = sum(module.sigma.size for module in plan.apply(spectra, sensitivity).modules.values())
    grid = grid_of(found, max(spectra[name].rank for name in spectra) if found.components else None)
    rows = _SCOPE_ROWS if isinstance(plan.policy, ScopePolicy) else max(2, _CELLS // max(size, 1))
    every = max(1, -(-(grid.last + 1) // rows))
    values = [grid.value(step) for step in range(0, grid.last + 1, every)]
    gains = np.full((len(values), size), np.nan)
    numbers: list[Preview | None] = []
    for row, value in enumerate(values):
        try:
            edit = with_knobs(plan, {knob: value}).apply(spectra, sensitivity)
        except PolicyError:
            numbers.append(None)
            continue
        gains[row] = end_to_end(edit)
        numbers.append(preview(edit, sensitivity) or summary(edit))
    return KnobTable(knob, np.array(values, dtype=np.float64), every, gains, tuple(numbers))


def end_to_end(edit: Edit) -> Float64[ndarray, " component"]:
    """The gains of all modules of an edit, module after module."""
    return np.concatenate([module.gains for module in edit.modules.values()])
