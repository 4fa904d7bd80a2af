"""Tune an edit by measuring it: one knob swept, or all of them searched, on rows kept for that.

The previews of `edit` are first order; here the model runs. An edit that was chosen by what it
measured on some rows looks better on them than it is, so tuning has its own slice, apart from the
one that sensitivities come from and from the held-out rows that prove the edit.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.calibration import Calibration, shared_keys
from surgery.demo import demo_slice, is_demo
from surgery.edit import Edit, Preview, preview
from surgery.engine import VariantEngine
from surgery.errors import Cancelled, DataError, PolicyError
from surgery.evaluate import evaluate
from surgery.evaluation import BASELINE, Effect, paired_effect
from surgery.measure import calibration_rows
from surgery.policy import Knob
from surgery.progress import SILENT, Control
from surgery.proposals import Proposals, grid_of, searchable, with_knobs
from surgery.recipe import CalibrationPlan, EditPlan
from surgery.sensitivity import Sensitivity
from surgery.sources import read_source
from surgery.variant_rows import Variant

if TYPE_CHECKING:
    from surgery.live import LiveModel


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
class SearchLimits:
    """Where a search ends: after so many trials, or with the trial that runs after so many seconds."""

    trials: int = 20
    seconds: float | None = None


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


@dataclass(frozen=True)
class Trial:
    """One edit that was tried, and the paired change of the mean answer loss, in nats per answer token."""

    plan: EditPlan
    measured: Effect


@dataclass(frozen=True)
class Search:
    """The edits that were measured, the plan given first, and the one that lowers the loss most."""

    trials: tuple[Trial, ...]
    best: Trial

    @property
    def warning(self) -> str:
        """What to say beside the best trial's number."""
        tried = "1 trial" if len(self.trials) == 1 else f"{len(self.trials)} trials"
        return (
            f"This is the best of {tried} on the rows that chose it, "
            "so the change measured there is optimistic: prove it on other rows."
        )


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
    """By slice and then by edit: the paired change of the mean answer loss, in nats per answer token.

    `control` hears of examples over all slices, edits and the unedited adapter. Raises `Cancelled`, and
    `DataError` for an edit called `unedited`.
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
    """`plan` with `knob`, one of its policy, at each of `values` in turn, predicted and measured.

    The unedited adapter is scored once. `control` hears of examples over everything.
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


def search(
    setup: TuningSetup,
    plan: EditPlan,
    *,
    knobs: Sequence[str] | None = None,
    limits: SearchLimits | None = None,
    seed: int = 0,
    control: Control = SILENT,
) -> Search:
    """Try settings of the policy's sliding knobs, and keep the one with the lowest loss.

    The plan given is the first trial, so nothing worse than it is returned; Optuna's TPE sampler,
    seeded, proposes the others. `knobs` narrows the search; by default it takes every switch and
    every number with a range, except a seed, and leaves alone those that do nothing. A setting that
    the policy refuses uses up a trial and is not measured; one that gives the same σ′ as an earlier
    trial uses one up too, and is neither measured nor listed again.

    A cancel or the limit of seconds ends the search after the running trial, the first one at the
    earliest, and what was found by then is returned: it raises no `Cancelled`, and one from
    `control.progress` is taken for a cancel. `control` hears of examples, the unedited adapter included.

    The best of many trials on one slice is optimistic, and more so the more there were: measure it
    again on rows that no trial has seen before you believe its number. See `Search.warning`.

    Raises `PolicyError` for a plan that cannot be applied, knobs that cannot be searched and limits
    that make no sense, all before the model runs.
    """
    trials, seconds = (limits or SearchLimits()).trials, (limits or SearchLimits()).seconds
    if trials < 1 or (seconds is not None and not seconds >= 0) or not 0 <= seed < 2**32:
        raise PolicyError(
            f"a search of {trials} trials in {seconds} seconds with seed {seed} cannot be made",
            "use 1 trial or more, 0 seconds or more, and a seed from 0 to 2**32 - 1",
        )
    setup.apply(plan)  # refused now, before the model runs
    watch = _Watch(control, seconds, (1 + trials) * len(setup.slice_.examples))
    proposals = Proposals(plan, searchable(plan, knobs, setup.live.spectra), seed)
    measured: dict[bytes, Trial] = {}
    bench = _Bench(setup, watch)
    for number in range(trials):
        if number and watch.over():
            break
        asked, proposed = proposals.ask()
        if number == 0:
            proposed = plan  # as it stands, even where a value lies between two steps
        try:
            edit = setup.apply(proposed)
        except PolicyError:
            proposals.tell(asked, math.nan)
            continue
        same = b"".join(sigma.tobytes() for sigma in edit.sigma_after.values())
        if same not in measured:
            measured[same] = Trial(proposed, bench.effect(edit, number))
        proposals.tell(asked, measured[same].measured.mean)
    found = tuple(measured.values())
    return Search(found, min(found, key=_loss))  # of equals the earliest: the plan given wins a tie


class _Watch:
    """Tells how far a search is, and when it is over: by the clock, or by a cancel in either of its forms."""

    def __init__(self, control: Control, seconds: float | None, total: int) -> None:
        self._control, self._total = control, total
        self._end = math.inf if seconds is None else time.monotonic() + seconds
        self._stopped = False

    def report(self, done: int) -> None:
        try:
            self._control.progress(done, self._total)
        except Cancelled:  # jobs of the app cancel by raising here, which would lose what was found
            self._stopped = True

    def over(self) -> bool:
        return self._stopped or self._control.cancelled() or time.monotonic() >= self._end


class _Bench:
    """One slice with the losses of the unedited adapter, measured once for all trials."""

    def __init__(self, setup: TuningSetup, watch: _Watch) -> None:
        self._setup, self._examples, self._watch = setup, setup.slice_.examples, watch
        self._unedited = self._losses(None, 0)

    def effect(self, edit: Edit, number: int) -> Effect:
        """What `edit`, tried as number `number`, changes."""
        return paired_effect(self._unedited, self._losses(edit.sigma_after, 1 + number))

    def _losses(self, sigma: Variant | None, passes: int) -> Float64[ndarray, "example"]:
        before = passes * len(self._examples)

        def report(done: int, total: int) -> None:
            self._watch.report(before + done)

        engine = VariantEngine(self._setup.live, {"tried": sigma}, rows=self._setup.batch_size)
        return engine.answer_losses(self._examples, control=Control(progress=report))["tried"]


def _effects(setup: TuningSetup, edits: Mapping[str, Edit], control: Control) -> dict[str, Effect]:
    """The change of the mean answer loss by edit, in their order."""
    variants: dict[str, Variant] = {name: edit.sigma_after for name, edit in edits.items()}
    scores = evaluate(
        setup.live, setup.slice_, variants, batch_size=setup.batch_size, generate=False, control=control
    ).scores
    return {name: paired_effect(scores[BASELINE].loss, scores[name].loss) for name in edits}


def _loss(trial: Trial) -> float:
    """Sorts trials; a model driven out of range is worse than anything."""
    return trial.measured.mean if math.isfinite(trial.measured.mean) else math.inf
