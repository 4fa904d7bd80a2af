"""Throughput of earlier calibrations and proofs on this machine, to estimate how long the next one takes.

Every number here was measured in a run; without one there is no estimate.
"""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from surgery.data import Calibration, CalibrationPlan, Row, prompt_ids
from surgery.errors import DataError
from surgery.files import digest, timings_file, write_whole
from surgery.model import BaseChoice

_SHORTEST = 0.2  # seconds: a shorter run tells of the start, not of the pace


@dataclass(frozen=True)
class CalibrationPace:
    """Throughput of a calibration in tokens a second, and the tokens of a row: so many for itself and for each character.

    All of it from the last run of one base model with one kind of prompt.
    """

    tokens_per_second: float
    tokens_per_row: float
    tokens_per_character: float

    def seconds(self, rows: int, characters: int) -> float:
        """Time for rows of so many characters in all, prompts and answers."""
        return (rows * self.tokens_per_row + characters * self.tokens_per_character) / self.tokens_per_second


def characters(rows: Sequence[Row]) -> int:
    """Length of the prompts and answers, as `CalibrationPace.seconds` takes it."""
    return sum(len(row.prompt) + len(row.answer) for row in rows)


def known_pace(base: BaseChoice, plan: CalibrationPlan) -> CalibrationPace | None:
    """The pace of the last run like this one; None when there was none."""
    try:
        record = _read()[_key(base, plan)]
        pace = CalibrationPace(**{name: float(value) for name, value in record.items()})
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    numbers = list(asdict(pace).values())
    usable = all(math.isfinite(number) and number >= 0 for number in numbers) and pace.tokens_per_second > 0
    return pace if usable else None


@dataclass(frozen=True)
class Spent:
    """Tokens that went through the model, and the seconds that this took."""

    tokens: int
    seconds: float


def remember_pace(
    base: BaseChoice,
    plan: CalibrationPlan,
    rows: Sequence[Row],
    calibration: Calibration,
    tokenizer: Any,
    spent: Spent,
) -> None:
    """The pace of a calibration, kept for the estimates of later ones.

    base: how the base model was loaded.
    plan: the calibration slice and its batches.
    rows: what the examples of `calibration` were made of, the ones that were too long included.
    calibration: encoded rows.
    tokenizer: of the base model.
    spent: tokens and seconds of the run.

    What cannot be written is let go: an estimate is then missing, no more.
    """
    if spent.seconds < _SHORTEST or not spent.tokens:
        return
    kept = {example.key for example in calibration.examples}
    rows = [row for row in rows if row.key in kept]
    every = sum(example.length for example in calibration.examples)
    own = _tokens_around(tokenizer, calibration, calibration.examples[0].task)
    letters = characters(rows)
    pace = CalibrationPace(
        spent.tokens / spent.seconds, own, max(0.0, every - own * len(rows)) / letters if letters else 0.0
    )
    _keep(_key(base, plan), asdict(pace))


def known_proof_pace(base: BaseChoice, task: str) -> float | None:
    """Seconds that one variant took for one example of a task in the last proof like this one; None without any."""
    try:
        seconds = float(_read()[_proof_key(base, task)]["seconds_per_answer"])
    except (KeyError, TypeError, ValueError):
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None


def remember_proof_pace(base: BaseChoice, task: str, answers: int, seconds: float) -> None:
    """The pace of a proof, kept for the estimates of later ones.

    base: how the base model was loaded.
    task: name of the rows or of the task.
    answers: examples × variants.
    seconds: that they took.
    """
    if seconds >= _SHORTEST and answers > 0:
        _keep(_proof_key(base, task), {"seconds_per_answer": seconds / answers})


def _proof_key(base: BaseChoice, task: str) -> str:
    return digest(["proof", json.dumps(asdict(base)), task])[:16]


def _tokens_around(tokenizer: Any, calibration: Calibration, task: str) -> float:
    """Tokens of an example without a text of its own: the chat template's and the end token."""
    encoding = calibration.encoding
    try:
        around = len(prompt_ids("", tokenizer, encoding, task))
    except DataError:  # a template may refuse an empty turn
        return 0.0
    return float(around + (encoding.eos and tokenizer.eos_token_id is not None))


def _key(base: BaseChoice, plan: CalibrationPlan) -> str:
    encoding = replace(plan.encoding, max_length=0)
    return digest([json.dumps([asdict(base), asdict(encoding), plan.checkpointing])])[:16]


def _keep(key: str, record: dict[str, float]) -> None:
    """Write whole or not at all; what cannot be written is let go."""
    with suppress(OSError):
        write_whole(timings_file(), json.dumps({**_read(), key: record}, indent=1).encode())


def _read() -> dict[str, Any]:
    try:
        record = json.loads(timings_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
