"""What training σ found, one file each: asked again, the answer is read.

A file is named by everything its numbers depend on. None is trusted: one that was changed, or is of another version,
is passed over and measured anew.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from surgery.data import Calibration, CalibrationPlan, parse_stored_plan, plan_record
from surgery.edits import edit_record, stored_edit
from surgery.errors import DataError, SurgeryError
from surgery.evaluation import Effect
from surgery.experiments.headroom import Headroom, Training, headroom
from surgery.experiments.tuning import TuningSetup
from surgery.files import digest, headrooms_folder, read_limited, write_kept
from surgery.progress import SILENT, Control
from surgery.sensitivity import provenance_of
from surgery.spectra import Spectra

_SCHEMA = 1
_MOST_BYTES = 64 << 20
_SUFFIX = ".json"


@dataclass(frozen=True)
class HeadroomQuestion:
    """Which σ is trained on what.

    measured: key of the provenance of the sensitivities on the calibration rows: the adapter, its base, the rows as the
        model reads them and the precision.
    tuning: the rows that choose the epoch.
    scope: a named scope or a regular expression over module names.
    training: how.
    """

    measured: str
    tuning: CalibrationPlan
    scope: str = "residual"
    training: Training = Training()

    @property
    def record(self) -> dict[str, Any]:
        """The question as JSON holds it."""
        return {
            "measured": self.measured,
            "tuning": plan_record(self.tuning),
            "scope": self.scope,
            "training": asdict(self.training),
        }


@dataclass(frozen=True)
class StoredHeadroom:
    """A question, when it was answered, and the answer."""

    question: HeadroomQuestion
    measured_at: datetime
    found: Headroom


def kept_headroom(
    setup: TuningSetup, calibration: Calibration, question: HeadroomQuestion, *, control: Control = SILENT
) -> Headroom:
    """What training σ finds, from this machine's store or by training, which is kept then.

    setup: the live model and the encoded tuning rows of the question.
    calibration: encoded rows to train on, those of the question's sensitivities.
    control: hears of rows, as of `headroom`.

    Raises `DataError` where the answer cannot be kept or the rows are not those of the sensitivities, and as `headroom`
    does.
    """
    if provenance_of(setup.live, calibration, list(setup.live.spectra)).key != question.measured:
        raise DataError(
            "the calibration rows, the adapter or the base model are not those of the sensitivities",
            "calibrate again",
        )
    file = headrooms_folder() / f"{_key(question, setup.slice_.digest)}{_SUFFIX}"
    known = _read(file, setup.live.spectra)
    if known is not None:
        return known.found
    found = headroom(setup, calibration, scope=question.scope, training=question.training, control=control)
    _write(file, question, found)
    return found


def stored_headrooms(measured: str, spectra: Spectra) -> list[StoredHeadroom]:
    """What is stored for sensitivities with this provenance key, newest first.

    spectra: of all modules of their adapter, by name.
    """
    files = sorted(headrooms_folder().glob(f"*{_SUFFIX}"))
    found = [each for file in files if (each := _read(file, spectra, measured)) is not None]
    return sorted(found, key=lambda each: each.measured_at, reverse=True)


def _key(question: HeadroomQuestion, rows: str) -> str:
    """The name of a question's file, with the digest of the tuning rows as the model reads them."""
    return digest([str(_SCHEMA), json.dumps(question.record, sort_keys=True), rows])[:24]


def _write(file: Path, question: HeadroomQuestion, found: Headroom) -> None:
    record = {
        "schema": _SCHEMA,
        "at": datetime.now(UTC).isoformat(),
        "question": question.record,
        "edit": edit_record(found.plan),
        "epoch": found.epoch,
        "calibration": list(found.calibration),
        "tuning": list(found.tuning),
        "change": asdict(found.change),
        "seconds": found.seconds,
    }
    data = json.dumps({**record, "digest": _digest(record)}, indent=1).encode()
    write_kept(file, data, "what training σ found", "make room, then train again")


def _read(file: Path, spectra: Spectra, measured: str | None = None) -> StoredHeadroom | None:
    """A stored answer, of the sensitivities asked for where they are; None for what is no answer, or was changed."""
    try:
        record: dict[str, Any] = json.loads(read_limited(file, _MOST_BYTES))
        if record.pop("digest") != _digest(record) or record["schema"] != _SCHEMA:
            return None
        if measured not in (None, record["question"]["measured"]):
            return None
        return StoredHeadroom(
            _question(record["question"]), datetime.fromisoformat(record["at"]), _found(record, spectra)
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, SurgeryError):
        return None


def _question(record: Mapping[str, Any]) -> HeadroomQuestion:
    training = Training(**record["training"])
    return HeadroomQuestion(
        str(record["measured"]),
        parse_stored_plan(CalibrationPlan, record["tuning"], "tuning"),
        str(record["scope"]),
        training,
    )


def _found(record: Mapping[str, Any], spectra: Spectra) -> Headroom:
    plan = stored_edit(record["edit"])
    losses = [tuple(float(loss) for loss in record[which]) for which in ("calibration", "tuning")]
    change = Effect(**{name: float(value) for name, value in record["change"].items()})
    epoch, seconds = int(record["epoch"]), float(record["seconds"])
    if not (0 <= epoch < len(losses[1]) == len(losses[0]) + 1 and math.isfinite(seconds)):
        raise ValueError("epochs that are none")
    return Headroom(plan, plan.apply(spectra, None), epoch, losses[0], losses[1], change, seconds)


def _digest(record: Any) -> str:
    return digest([json.dumps(record)])
