"""Attach an adapter to its base and measure its sensitivities, with a store of what was measured before."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.adapter import Adapter, refuse_changed
from surgery.calibration import Calibration, Row, batch_order, choose, encode, left_out_text
from surgery.device_map import is_offloaded
from surgery.errors import DataError
from surgery.home import digest
from surgery.measurements import PART, WHOLE, header, store_folder
from surgery.pace import Spent, remember_pace
from surgery.partial import PartFile
from surgery.progress import SILENT, Control
from surgery.recipe import BaseChoice, CalibrationPlan
from surgery.sensitivity import (
    Sensitivity,
    load_sensitivity,
    measure_sensitivity,
    provenance_of,
    save_sensitivity,
)
from surgery.sources import Found, read_source, source_files
from surgery.spectrum import Spectra

if TYPE_CHECKING:
    from surgery.live import LiveModel


@dataclass(frozen=True)
class Slice:
    """The rows of a calibration plan, and how many records its source left out by reason."""

    rows: tuple[Row, ...]
    left_out: Mapping[str, int]


def attach(adapter: Adapter, spectra: Spectra, choice: BaseChoice) -> "LiveModel":
    """Load the base of `choice` and attach the adapter to it."""
    from surgery.base import load_base
    from surgery.live import LiveModel

    base = load_base(choice.location, revision=choice.revision, device=choice.device, dtype=choice.dtype)
    return LiveModel(base, adapter, spectra)


def calibration_slice(live: "LiveModel", plan: CalibrationPlan) -> Calibration:
    """The encoded examples of a calibration plan."""
    slice_ = planned_rows(plan)
    return encode(slice_.rows, live.base.tokenizer, plan.encoding, left_out=slice_.left_out)


def calibration_rows(plan: CalibrationPlan) -> list[Row]:
    """The rows of a calibration plan."""
    return list(planned_rows(plan).rows)


def rows_digest(rows: Iterable[Row]) -> str:
    """Identity of a slice by its text, whatever file it came from."""
    return digest(row.key for row in rows)


def refuse_changed_rows(plan: CalibrationPlan, measured: str) -> None:
    """Raise `DataError` where the source of a plan gives other rows than the `measured` ones, a digest of theirs.

    A source that is gone, or was never on this machine, contradicts nothing.
    """
    try:
        files = source_files(plan.data, download=False)
    except DataError:
        return
    if not all(file.exists() for file in files):
        return
    try:
        now = rows_digest(planned_rows(plan).rows)
    except DataError as error:
        now = error.problem
    if now != measured:
        raise DataError(
            f"the rows of {plan.data!r} have changed since they were measured",
            "measure again, or restore the file; nothing was written",
        )


def planned_rows(plan: CalibrationPlan, found: Found | None = None) -> Slice:
    """The rows of a calibration plan; its source is read unless what it gives is given.

    Raises `DataError` for a source without rows, and for a slice that asks for more than there are.
    """
    found = found or read_source(plan.data, plan.fields)
    try:
        rows = choose(found.rows, plan.examples, seed=plan.seed, start=plan.start)
    except DataError as error:
        if not found.left_out:
            raise
        raise DataError(
            f"{error.problem} ({left_out_text(found.left_out)}; {found.problem})", error.remedy
        ) from error
    return Slice(tuple(rows), found.left_out)


def calibrate(
    live: "LiveModel",
    plan: CalibrationPlan,
    *,
    base: BaseChoice | None = None,
    slice_: Slice | None = None,
    control: Control = SILENT,
) -> Sensitivity:
    """Measure every module on the planned slice, or find the same measurement in the store.

    All modules are measured whatever the scope of the edit, because they cost almost nothing once
    the backward pass runs: scope then is a choice that needs no second pass. A measurement that ends
    before its time, in whatever way, goes on from its finished examples when it is asked for again, and
    gives the same bits; `control.resumed` hears of them before the first batch. `base` is how `live` was
    loaded, for the store's list and the pace of later runs; `slice_` are the plan's rows, read unless they are
    given. Raises `AdapterError` when the adapter's files
    have changed since it was opened.
    """
    refuse_changed(live.adapter)
    slice_ = planned_rows(plan) if slice_ is None else slice_
    rows = slice_.rows
    calibration = encode(rows, live.base.tokenizer, plan.encoding, left_out=slice_.left_out)
    names = list(live.spectra)
    provenance = provenance_of(live, calibration, names)
    base = base or BaseChoice(live.base.location, None, str(live.device), provenance.dtype)
    stored = stored_sensitivity_file(provenance.key, plan.batch_size)
    order = batch_order(calibration.examples)
    lengths = [calibration.examples[i].length for i in order]

    def about_part(done: int) -> dict[str, str]:
        described = header(plan, base, provenance, calibration.left_out)
        return {**described, "examples": str(len(order)), "tokens_left": str(sum(lengths[done:]))}

    part = PartFile(stored.with_suffix(PART), order, {name: live.spectra[name].rank for name in names}, about_part)
    known = _found_again(stored)
    if known is not None:
        part.drop()
        control.progress(known.examples, known.examples)
        # other rows may have been left out on the way to the same examples
        return replace(known, left_out=calibration.left_out, rows=rows_digest(rows))
    resume = part.read()
    if resume is not None:
        control.resumed(resume.done, len(order))
    begun = time.monotonic()
    try:
        sensitivity = measure_sensitivity(
            live,
            calibration,
            names,
            batch_size=plan.batch_size,
            # the graph of a whole pass would hold all weights that offloading keeps away
            checkpointing=plan.checkpointing or is_offloaded(live.model),
            control=control,
            resume=resume,
            keep=part.keep,
        )
    except BaseException:
        part.flush()
        raise
    spent = Spent(sum(lengths[resume.done if resume else 0 :]), time.monotonic() - begun)
    sensitivity = replace(sensitivity, rows=rows_digest(rows))
    save_sensitivity(sensitivity, stored, header(plan, base, provenance, calibration.left_out))
    part.drop()
    remember_pace(base, plan, rows, calibration, live.base.tokenizer, spent)
    return sensitivity


def _found_again(stored: Path) -> Sensitivity | None:
    """The stored measurement; a damaged one is removed, to be measured again."""
    try:
        return load_sensitivity(stored) if stored.is_file() else None
    except OSError as error:
        raise DataError(
            f"the stored measurements cannot be read ({error.strerror})", "check who owns the workbench's folder"
        ) from error
    except DataError:
        stored.unlink(missing_ok=True)
        return None


def stored_sensitivity_file(key: str, batch_size: int) -> Path:
    """Where the measurement of this provenance key is kept.

    The batch size moves the last bits, and a recipe is to give the same bytes, so it is in the name.
    """
    return store_folder() / f"{key}-{batch_size}{WHOLE}"
