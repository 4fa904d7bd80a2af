"""The rows that a component is looked at on: those that it harms most and those that it helps most, by their stored gₖ."""

from dataclasses import dataclass

import numpy as np

from surgery.errors import DataError
from surgery.files import digest
from surgery.sensitivity import Sensitivity

MOST_ROWS = 32  # on either side


@dataclass(frozen=True)
class Subject:
    """What is looked at: a module on some rows of a measurement, by their positions in its slice."""

    sensitivity: Sensitivity
    module: str
    rows: tuple[int, ...]

    @property
    def key(self) -> str:
        """The name under which the look can be stored and found again."""
        return digest([self.sensitivity.provenance.key, self.module, *map(str, self.rows)])[:24]

    def check(self) -> None:
        """Raise `DataError` for a module that is not measured, no rows, and rows beyond the measurement."""
        refuse_unmeasured(self.sensitivity, self.module, 0)
        if not self.rows or not all(0 <= row < self.sensitivity.examples for row in self.rows):
            raise DataError(
                f"rows {list(self.rows)[:8]} are not among the {self.sensitivity.examples} measured",
                "choose rows with chosen_rows",
            )


def chosen_rows(sensitivity: Sensitivity, name: str, component: int, count: int = 8) -> tuple[int, ...]:
    """Positions of rows in the calibration slice: gₖ > 0 from the largest down, then gₖ < 0 from the smallest up.

    sensitivity: a measurement at the adapter's own σ.
    name, component: of one component of a measured module.
    count: rows of either sign at most, from 1 to `MOST_ROWS`.

    Raises `DataError` for a module that is not measured, a component that it lacks, another count, and where no row
    has a gₖ other than zero.
    """
    refuse_unmeasured(sensitivity, name, component)
    if not 1 <= count <= MOST_ROWS:
        raise DataError(f"{count} rows of either sign were asked for", f"ask for 1 to {MOST_ROWS}")
    g = sensitivity.values[name][:, component]
    order = np.argsort(-g, kind="stable")
    harmed, helped = order[g[order] > 0][:count], order[::-1][g[order[::-1]] < 0][:count]
    if not (harmed.size or helped.size):
        raise DataError(
            f"no row's loss depends on component {component} of module {name!r}", "choose another component"
        )
    return tuple(int(row) for row in (*harmed, *helped))


def refuse_unmeasured(sensitivity: Sensitivity, name: str, component: int) -> None:
    """Raise `DataError` for a module without sensitivities, and for a component that it lacks."""
    if name not in sensitivity.values:
        raise DataError(
            f"module {name!r} is not measured", f"choose one of {len(sensitivity.values)} measured modules"
        )
    rank = sensitivity.values[name].shape[1]
    if not 0 <= component < rank:
        raise DataError(f"module {name!r} has no component {component}", f"use 0 to {rank - 1}")
