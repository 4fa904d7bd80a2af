"""What an edit would be at every step of one knob, computed at once, so that a slider can be followed.

The policies are the only place where gains are computed: a page that repaints while a knob is dragged
reads this table.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.edit import Edit, Preview, preview, summary
from surgery.errors import PolicyError
from surgery.policy import knobs_of
from surgery.proposals import grid_of, with_knobs
from surgery.recipe import EditPlan
from surgery.sensitivity import Sensitivity
from surgery.spectrum import Spectra

_STEPS = 1000


@dataclass(frozen=True)
class KnobTable:
    """Gains of every component in scope, module after module, and the preview numbers, at each value.

    A row of NaN gains and None for its numbers mark a value that the policy refuses.
    """

    knob: str
    values: Float64[ndarray, "step"]
    gains: Float64[ndarray, "step component"]
    numbers: tuple[Preview | None, ...]


def knob_table(spectra: Spectra, plan: EditPlan, knob: str, sensitivity: Sensitivity | None) -> KnobTable:
    """The table of `knob`, one of the plan's policy, over its whole range.

    Raises `PolicyError` for a knob that has no range, and where the plan itself cannot be applied.
    """
    found = {each.name: each for each in knobs_of(plan.policy)}.get(knob)
    if found is None or found.kind is str:
        raise PolicyError(f"policy {plan.policy.name} has no knob {knob!r} with a range", "choose a sliding knob")
    grid = grid_of(found)
    if grid.last > _STEPS:
        raise PolicyError(f"knob {knob} has {grid.last + 1} steps", "choose a sliding knob")
    values = [grid.value(step) for step in range(grid.last + 1)]
    size = sum(module.sigma.size for module in plan.apply(spectra, sensitivity).modules.values())
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
    return KnobTable(knob, np.array(values, dtype=np.float64), gains, tuple(numbers))


def end_to_end(edit: Edit) -> Float64[ndarray, "component"]:
    """The gains of all modules of an edit, module after module."""
    return np.concatenate([module.gains for module in edit.modules.values()])
