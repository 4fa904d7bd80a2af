"""Edits measured beside their prediction, and one knob swept, on rows kept for that.

Tuning has its own slice, apart from the one that sensitivities come from and from the held-out rows that prove
the edit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from surgery.data import Calibration, CalibrationPlan, calibration_rows, read_source, shared_keys
from surgery.edits import Edit, EditPlan, Preview, grid_of, preview, with_knobs
from surgery.errors import DataError, PolicyError
from surgery.evaluation import BASELINE, Effect, Marking, evaluate, paired_effect
from surgery.files import demo_slice, is_demo
from surgery.model import Variant
from surgery.policies import Knob
from surgery.progress import SILENT, Control
from surgery.sensitivity import Sensitivity

if TYPE_CHECKING:
    from surgery.model import LiveModel


@dataclass(frozen=True)
class TuningSetup:
    """What edits are tried with: the live model, the slice that judges them and the sensitivities that policies read.

    `batch_size` counts examples of a batch.
    """

    live: "LiveModel"
    slice_: Calibration
    sensitivity: Sensitivity | None
    batch_size: int = 32

    def apply(self, plan: EditPlan) -> Edit:
        """The edit of the live model's adapter; raises `PolicyError`."""
        return plan.apply(self.live.spectra, self.sensitivity)


@dataclass(frozen=True)
class KnobPoint:
    """One value of a knob: what the sensitivities foretell, and what the model does.

    `predicted` speaks of the calibration loss, `measured` is the paired change of the mean answer
    loss on the slice that was swept; both in nats per answer token. `predicted` is None where the
    modules in scope have no sensitivities.
    """

    value: float
    predicted: Preview | None
    measured: Effect


def tuning_plan(plan: CalibrationPlan) -> CalibrationPlan:
    """The rows that go with a calibration slice for tuning: as many, encoded alike, none of them shared.

    The demo's `tuning` slice for the data of a demo, else the rows that follow in the same seeded
    shuffle. Raises `DataError` when too few rows are left, or one is the same as a calibration row.
    """
    if is_demo(plan.data):
        tuning = replace(plan, data=demo_slice(plan.data.partition("/")[0], "tuning"), start=0)
    else:
        tuning = replace(plan, start=plan.start + plan.examples)
    calibration = calibration_rows(plan)
    left = len(read_source(tuning.data, tuning.fields).rows) - tuning.start
    if left < tuning.examples:
        raise DataError(
            f"{tuning.examples} rows are needed for tuning, and {tuning.data!r} has {left} left",
            "add rows, calibrate on fewer examples or lower the start offset",
        )
    shared = shared_keys(calibration_rows(tuning), calibration)
    if shared:
        raise DataError(
            f"{len(shared)} of the rows for tuning were used for calibration",
            "remove repeated rows from the file, or calibrate on other data",
        )
    return tuning


def measure_edits(
    live: "LiveModel",
    slices: Mapping[str, Calibration],
    edits: Mapping[str, Edit],
    *,
    batch_size: int = 32,
    control: Control = SILENT,
) -> dict[str, dict[str, Effect]]:
    """Paired changes of the mean answer loss, by slice and then by edit, in nats per answer token.

    live: the adapter in its running base model.
    slices: encoded rows, by the name of the slice.
    edits: by the names of their variants.
    batch_size: examples of a batch at most.
    control: hears of examples over all slices, edits and the unedited adapter.

    Raises `Cancelled`, and `DataError` for an edit called `unedited`.
    """
    total = sum(len(slice_.examples) for slice_ in slices.values()) * (1 + len(edits))
    effects, before = {}, 0
    for name, slice_ in slices.items():
        setup = TuningSetup(live, slice_, None, batch_size)
        effects[name] = _effects(setup, edits, control.part(before, total))
        before += len(slice_.examples) * (1 + len(edits))
    return effects


def sweep_values(knob: Knob, count: int = 9, *, high: float | None = None) -> tuple[float, ...]:
    """Up to `count` values from one end of a knob's range to the other, evenly spaced and then put on its steps.

    `high` lowers the upper end: for a knob that counts components, the rank. A range of fewer steps
    gives fewer values. Raises `PolicyError` for a knob without a range and for fewer than 2 values.
    """
    grid = grid_of(knob, high)
    if count < 2:
        raise PolicyError(f"a sweep of {count} values was asked for", "use 2 or more")
    steps = {round(step) for step in np.linspace(0, grid.last, count).tolist()}
    return tuple(grid.value(step) for step in sorted(steps))


def sweep_knob(
    setup: TuningSetup, plan: EditPlan, knob: str, values: Sequence[float], *, control: Control = SILENT
) -> list[KnobPoint]:
    """Predicted and measured changes of the loss along one knob, everything else as in the plan.

    setup: the adapter in its running base model, its sensitivity and the rows to measure on.
    plan: the edit that the knob belongs to.
    knob: one of the plan's policy.
    values: of the knob, in the order of the result.
    control: hears of examples over everything; the unedited adapter is scored once.

    Raises `PolicyError` for an unknown knob and for a value that the knob or the policy refuses,
    all before the model runs, and `Cancelled`.
    """
    plans = [with_knobs(plan, {knob: value}) for value in values]
    edits = [setup.apply(each) for each in plans]
    named = {str(position): edit for position, edit in enumerate(edits)}
    measured = _effects(setup, named, control)
    return [
        KnobPoint(getattr(each.policy, knob), preview(edit, setup.sensitivity), effect)
        for each, edit, effect in zip(plans, edits, measured.values(), strict=True)
    ]


def _effects(setup: TuningSetup, edits: Mapping[str, Edit], control: Control) -> dict[str, Effect]:
    """The change of the mean answer loss by edit, in their order."""
    variants: dict[str, Variant] = {name: edit.sigma_after for name, edit in edits.items()}
    scores = evaluate(
        setup.live,
        setup.slice_,
        variants,
        batch_size=setup.batch_size,
        marking=Marking(generate=False),
        control=control,
    ).scores
    return {name: paired_effect(scores[BASELINE].loss, scores[name].loss) for name in edits}
