"""The measurements stored on this machine, whole and unfinished, and those that ship with the demos, told by their
headers alone.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from surgery.data import CalibrationPlan, parse_stored_plan, plan_record
from surgery.errors import DataError, SurgeryError
from surgery.files import is_shipped, sensitivities_folder, shipped_files
from surgery.model import BaseChoice, pinned_base
from surgery.sensitivity.checkpoint import PART_FORMAT
from surgery.sensitivity.sensitivity import FORMAT, Provenance

WHOLE, PART = ".safetensors", ".part"
SHIPPED = "sensitivity.safetensors"  # beside a demo adapter


@dataclass(frozen=True)
class Measurement:
    """One stored measurement: its plan, its base model and what came out.

    `done` of `examples` are measured; a file with fewer is a part that `run.calibrate` goes on from. `plan`
    and `base` are None, and `loss` too, in files of earlier versions, which say less of themselves. `loss` is
    the mean in nats per answer token, `tokens_left` what a part still has to put through the model. `inputs` tells
    that what enters the modules was measured too, which files of earlier versions lack.
    """

    file: Path
    adapter: str
    dtype: str
    done: int
    examples: int
    measured: datetime
    plan: CalibrationPlan | None
    base: BaseChoice | None
    loss: float | None
    left_out: Mapping[str, int]
    tokens_left: int
    inputs: bool = True

    @property
    def finished(self) -> bool:
        return self.file.suffix == WHOLE

    @property
    def shipped(self) -> bool:
        """Whether it came with a demo and was measured elsewhere."""
        return is_shipped(self.file)

    def is_of(self, base: BaseChoice | None, plan: CalibrationPlan | None = None) -> bool:
        """Whether it belongs to this base, wherever it runs, and to this plan where one is given.

        Gradient checkpointing changes how a plan is carried out, not what it measures.
        """
        if base is None or self.base is None:
            return False
        if pinned_base(replace(self.base, device=base.device)) != pinned_base(base):
            return False
        if plan is None:
            return True
        return self.plan is not None and replace(self.plan, checkpointing=plan.checkpointing) == plan


def measurement_header(
    plan: CalibrationPlan, base: BaseChoice, provenance: Provenance, left_out: Mapping[str, int]
) -> dict[str, str]:
    """What a stored file tells of itself, whole or part."""
    return {
        "plan": json.dumps(plan_record(plan)),
        "base": json.dumps(plan_record(pinned_base(base))),
        "adapter": provenance.adapter,
        "dtype": provenance.dtype,
        "left_out": json.dumps(dict(left_out)),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def stored_measurements(adapter: str) -> list[Measurement]:
    """The measurements of the adapter with this digest, newest first. Reads no numbers, only headers."""
    return _of(adapter, [file for file in sensitivities_folder().glob("*") if file.suffix in (WHOLE, PART)])


def shipped_measurements(adapter: str) -> list[Measurement]:
    """The measurements that ship beside the demo adapter with this digest; none for any other adapter.

    They stand for a measurement of one's own until there is one: `calibrate` does not find them.
    """
    return _of(adapter, shipped_files(SHIPPED))


def delete_measurement(measurement: Measurement) -> None:
    """Remove one file of the store; raises `DataError` where that is not allowed, as for what ships with a demo."""
    if measurement.shipped:
        raise DataError(
            "this measurement ships with a demo and stays", "calibrate again: your own measurement takes its place"
        )
    try:
        measurement.file.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"{measurement.file.name!r} cannot be deleted ({error.strerror})", "check who owns the folder"
        ) from error


def _of(adapter: str, files: Iterable[Path]) -> list[Measurement]:
    """The files that are measurements of the adapter with this digest, newest first."""
    found = [measurement for measurement in map(measurement_in, files) if measurement is not None]
    mine = [measurement for measurement in found if measurement.adapter == adapter]
    return sorted(mine, key=lambda measurement: (measurement.measured, measurement.file.name), reverse=True)


def measurement_in(file: Path) -> Measurement | None:
    """A file as it tells of itself; None for what is no measurement."""
    try:
        with safe_open(str(file), framework="np") as handle:
            metadata = handle.metadata() or {}
            rows = int(handle.get_slice("losses").get_shape()[0])
        if metadata.get("format") not in (FORMAT, PART_FORMAT):
            return None
        part = metadata["format"] == PART_FORMAT
        if part != (file.suffix == PART):
            return None
        provenance = {} if part else json.loads(metadata["provenance"])
        left_out = json.loads(metadata.get("left_out", "{}"))
        when = metadata.get("measured")
        loss = metadata.get("loss")
        return Measurement(
            file=file,
            adapter=str(metadata["adapter"] if part else provenance["adapter"]),
            dtype=str(metadata["dtype"] if part else provenance["dtype"]),
            done=rows,
            examples=int(metadata["examples"]) if part else rows,
            measured=datetime.fromisoformat(when)
            if when
            else datetime.fromtimestamp(int(file.stat().st_mtime), UTC),
            plan=_plan(CalibrationPlan, metadata.get("plan"), "calibration"),
            base=_plan(BaseChoice, metadata.get("base"), "base"),
            loss=float(loss) if loss is not None else None,
            left_out={str(reason): int(count) for reason, count in left_out.items()},
            tokens_left=int(metadata.get("tokens_left", 0)),
            inputs=part or "inputs" in metadata,
        )
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _plan(kind: type, text: str | None, where: str) -> Any:
    try:
        record = json.loads(text) if text else None
        return record and parse_stored_plan(kind, record, where)
    except (SurgeryError, ValueError, RecursionError):
        return None
