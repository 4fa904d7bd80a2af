"""A calibration: the planned rows measured on a live model, resumed after a break, found again in the store."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.adapter import refuse_changed
from surgery.data import SAMPLED, Calibration, CalibrationPlan, Slice, planned_rows, rows_digest, seen_keys
from surgery.errors import DataError
from surgery.files import sensitivities_folder
from surgery.model import BaseChoice, batch_order, is_offloaded
from surgery.progress import SILENT, Control
from surgery.sensitivity.backward import measure_sensitivity, provenance_of
from surgery.sensitivity.checkpoint import PartFile
from surgery.sensitivity.doubts import COMPARED, losses_without
from surgery.sensitivity.input_pass import measure_inputs
from surgery.sensitivity.sensitivity import Sensitivity, load_sensitivity, save_sensitivity
from surgery.sensitivity.store import PART, WHOLE, measurement_header
from surgery.sensitivity.timing import Spent, remember_pace

if TYPE_CHECKING:
    from surgery.model import LiveModel


def calibration_slice(live: "LiveModel", plan: CalibrationPlan, slice_: Slice | None = None) -> Calibration:
    """The encoded examples of a calibration plan; its rows are read unless they are given."""
    slice_ = planned_rows(plan) if slice_ is None else slice_
    found = live.encode(slice_.rows, plan.encoding, left_out=slice_.left_out, spare=slice_.spare)
    return replace(found, sampled=plan.seed) if plan.labels == SAMPLED else found


def calibrate(
    live: "LiveModel",
    plan: CalibrationPlan,
    *,
    base: BaseChoice | None = None,
    slice_: Slice | None = None,
    control: Control = SILENT,
) -> Sensitivity:
    """The sensitivity of every module on the planned slice, measured, or found in the store.

    Rows that cannot be measured give way to those that follow in the shuffle, as far as there are any.

    live: the adapter in its running base model.
    plan: the calibration slice and its batches.
    base: how `live` was loaded, for the store's list and the pace of later runs.
    slice_: the plan's rows, read unless they are given.
    control: hears of examples; its `resumed` hears of those finished earlier before the first batch.

    All modules are measured whatever the scope of the edit, because they cost almost nothing once
    the backward pass runs: scope then is a choice that needs no second pass. A measurement that ends
    before its time, in whatever way, goes on from its finished examples when it is asked for again, and
    gives the same bits. Raises `AdapterError` when the adapter's files have changed since it was opened.
    """
    refuse_changed(live.adapter)
    slice_ = planned_rows(plan) if slice_ is None else slice_
    if plan.base_inputs:
        return _with_base_inputs(live, plan, base, slice_, control)
    calibration = calibration_slice(live, plan, slice_)
    provenance = provenance_of(live, calibration, list(live.spectra))
    base = base or BaseChoice(live.base.location, None, str(live.device), provenance.dtype)
    stored = stored_sensitivity_file(provenance.key, plan.batch_size)
    header = measurement_header(plan, base, provenance, calibration.left_out)
    return _Pass(live, plan, base, slice_, calibration, control).found(stored, header)


@dataclass(frozen=True)
class _Pass:
    """One measurement of a slice, which goes on from a part file and leaves one behind where it ends early."""

    live: "LiveModel"
    plan: CalibrationPlan
    base: BaseChoice
    slice_: Slice
    calibration: Calibration
    control: Control

    def found(self, stored: Path, header: Mapping[str, str]) -> Sensitivity:
        """What is stored, or what is measured now and stored with a header."""
        part = self.part(stored.with_suffix(PART), header)
        known = _found_again(stored)
        if known is not None:
            part.drop()
            self.control.progress(known.examples, known.examples)
            # other rows may have been left out on the way to the same examples
            return self.with_rows(replace(known, left_out=self.calibration.left_out))
        measured = self.with_rows(self.measured(part))
        save_sensitivity(measured, stored, header)
        part.drop()
        return measured

    def part(self, file: Path, header: Mapping[str, str]) -> PartFile:
        """Where finished examples are kept until all are, and what is told of them meanwhile."""
        order = batch_order(self.calibration.examples)
        lengths = [self.calibration.examples[i].length for i in order]

        def about(done: int) -> dict[str, str]:
            return {**header, "examples": str(len(order)), "tokens_left": str(sum(lengths[done:]))}

        return PartFile(file, order, {name: each.rank for name, each in self.live.spectra.items()}, about)

    def measured(self, part: PartFile) -> Sensitivity:
        """The whole measurement, whose pace is kept; what is finished by then is kept whatever ends it."""
        resume = part.read()
        if resume is not None:
            self.control.resumed(resume.done, len(self.calibration.examples))
        begun = time.monotonic()
        try:
            found = measure_sensitivity(
                self.live,
                self.calibration,
                list(self.live.spectra),
                batch_size=self.plan.batch_size,
                # the graph of a whole pass would hold all weights that offloading keeps away
                checkpointing=self.plan.checkpointing or is_offloaded(self.live.model),
                control=self.control,
                resume=resume,
                keep=part.keep,
            )
        except BaseException:
            part.flush()
            raise
        self._remember(resume.done if resume else 0, time.monotonic() - begun)
        if found.label_free:  # losses of drawn answers have nothing to be compared with
            return found
        without = losses_without(self.live, self.calibration.examples[:COMPARED], self.plan.batch_size)
        return replace(found, without=without)

    def with_rows(self, found: Sensitivity) -> Sensitivity:
        """The measurement with the rows that were tried for it."""
        keys = tuple(map(seen_keys, self.slice_.first(self.calibration.tried)))
        return replace(found, rows=rows_digest(self.slice_.rows), keys=keys)

    def _remember(self, done: int, seconds: float) -> None:
        examples = self.calibration.examples
        tokens = sum(examples[i].length for i in batch_order(examples)[done:])
        rows = self.slice_.first(self.calibration.tried)
        tokenizer = self.live.tokenizer_for(self.plan.encoding)
        remember_pace(self.base, self.plan, rows, self.calibration, tokenizer, Spent(tokens, seconds))


def _with_base_inputs(
    live: "LiveModel", plan: CalibrationPlan, base: BaseChoice | None, slice_: Slice, control: Control
) -> Sensitivity:
    """The measurement with the base's inputs in place of the adapter's, kept beside it; one forward pass more."""
    own = calibrate(live, replace(plan, base_inputs=False), base=base, slice_=slice_, control=control)
    stored = stored_sensitivity_file(own.provenance.key, plan.batch_size, base_inputs=True)
    known = _found_again(stored)
    if known is not None:
        return replace(own, inputs=known.inputs)
    calibration = calibration_slice(live, plan, slice_)
    inputs = measure_inputs(live, calibration, list(own.values), batch_size=plan.batch_size, control=control)
    found = replace(own, inputs=inputs)
    base = base or BaseChoice(live.base.location, None, str(live.device), own.provenance.dtype)
    save_sensitivity(found, stored, measurement_header(plan, base, own.provenance, own.left_out))
    return found


def _found_again(stored: Path) -> Sensitivity | None:
    """The stored measurement; a damaged one is removed, to be measured again.

    One of an earlier version, without what enters the modules, is measured again too: its file stays until the new
    one takes its place. A pass for the inputs alone would give them other bits than a whole measurement has.
    """
    try:
        known = load_sensitivity(stored) if stored.is_file() else None
        return known if known is not None and known.inputs is not None else None
    except OSError as error:
        raise DataError(
            f"the stored measurements cannot be read ({error.strerror})", "check who owns the workbench's folder"
        ) from error
    except DataError:
        stored.unlink(missing_ok=True)
        return None


def stored_sensitivity_file(key: str, batch_size: int, *, base_inputs: bool = False) -> Path:
    """Where the measurement of this provenance key is kept, with the inputs of the adapter or of the base alone.

    The batch size moves the last bits, and a recipe is to give the same bytes, so it is in the name.
    """
    return sensitivities_folder() / f"{key}-{batch_size}{'-base' if base_inputs else ''}{WHOLE}"
