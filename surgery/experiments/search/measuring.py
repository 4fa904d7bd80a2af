"""Rows put to one edit after another, a part of them at a time; what was measured is kept in the search's log.

A part is kept once it is whole, because numbers move by rounding with the batch that they were computed in: a search
that goes on where it was cut off has the bits of one that was not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import Calibration, Encoding, Example
from surgery.evaluation import BASELINE, Marking, answered
from surgery.experiments.search.objectives import TASK, Objective, Reading
from surgery.experiments.search.task_rows import TaskRows
from surgery.model import Variant, VariantEngine
from surgery.progress import SILENT, Control
from surgery.runs import AnswerLog, RequestKey
from surgery.sensitivity import sigma_identity

if TYPE_CHECKING:
    from surgery.model import LiveModel

Numbers = dict[str, Float64[ndarray, " row"]]


@dataclass(frozen=True)
class Judges:
    """The rows that judge edits, and what is read of them.

    live: the adapter in its running base model.
    slices: encoded rows by whose they are, as `Objective.rows`; none is empty.
    objectives: those of the search.
    log: where what was measured is kept.
    batch_size: rows of a batch at most.
    task: the documents of a task that judge beside them.
    """

    live: "LiveModel"
    slices: Mapping[str, Calibration]
    objectives: Sequence[Objective]
    log: AnswerLog
    batch_size: int = 32
    task: TaskRows | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """How many rows judge, by whose they are."""
        sizes = {whose: len(slice_.examples) for whose, slice_ in self.slices.items()}
        return sizes if self.task is None else {**sizes, TASK: len(self.task)}

    @property
    def rows(self) -> int:
        """Rows of the largest slice, which parts are counted in."""
        return max(self.sizes.values())

    def changes(self, sigma: Variant, part: range, control: Control = SILENT) -> Numbers:
        """Paired changes against the unedited adapter by objective, of a part of the rows.

        sigma: σ′ by module.
        part: rows of the largest slice; of a smaller one the rows in proportion.
        control: raises `Cancelled`, and the part is then not measured.
        """
        found: Numbers = {}
        for whose, slice_ in self.slices.items():
            readings = tuple(sorted({e.reading for e in self.objectives if e.rows == whose and e.reading}))
            own = self._share(whose, part)
            examples = slice_.examples[own.start : own.stop]
            asked = _Part(RequestKey(part.start, part.stop, whose), examples, slice_.encoding, readings)
            before, after = self._numbers(asked, None, control), self._numbers(asked, sigma, control)
            for each in self.objectives:
                if each.rows == whose and each.reading is not None:
                    found[each.name] = after[each.reading] - before[each.reading]
        for each in self.objectives:
            if each.rows == TASK:
                found[each.name] = self._scores(part, sigma, control) - self._scores(part, None, control)
        return found

    def _share(self, whose: str, part: range) -> range:
        """The rows of a slice that stand in proportion where these rows of the largest one do."""
        size, rows = self.sizes[whose], self.rows
        return range(-(-part.start * size // rows), -(-part.stop * size // rows))

    def _scores(self, part: range, sigma: Variant | None, control: Control) -> Float64[ndarray, " row"]:
        """What the task gives its documents, from the log or from the model."""
        assert self.task is not None
        own = self._share(TASK, part)
        if not own:
            return np.zeros(0)
        place = RequestKey(part.start, part.stop, TASK)
        name = BASELINE if sigma is None else sigma_identity(sigma)
        known = _numbers_of(self.log.known.get(place, {}).get(name), "score", len(own))
        if known is not None:
            return known
        found = self.task.scores(own, sigma, self.batch_size, Control(cancelled=control.cancelled))
        self.log.add(place, {name: {"score": found.tolist()}})
        return found

    def _numbers(self, asked: "_Part", sigma: Variant | None, control: Control) -> Numbers:
        """What is read of a part, from the log or from the model."""
        name = BASELINE if sigma is None else sigma_identity(sigma)
        known = _kept(self.log.known.get(asked.place, {}).get(name), asked)
        if known is not None:
            return known
        found = self._measured(asked, sigma, control)
        self.log.add(asked.place, {name: {reading: numbers.tolist() for reading, numbers in found.items()}})
        return found

    def _measured(self, asked: "_Part", sigma: Variant | None, control: Control) -> Numbers:
        control = Control(cancelled=control.cancelled)
        found: Numbers = {reading: np.zeros(len(asked.examples)) for reading in asked.readings}
        if not asked.examples:  # a slice of few rows has none in some parts
            return found
        if {"loss", "exact"} & set(asked.readings):
            engine = VariantEngine(self.live, {"tried": sigma}, rows=self.batch_size)
            marking = Marking(generate="exact" in asked.readings)
            tokenizer = self.live.tokenizer_for(asked.encoding)
            scored = answered(asked.examples, engine, tokenizer, marking=marking, control=control)
            found["loss"] = scored.numbers("tried", "loss")
            found["exact"] = scored.numbers("tried", scored.metrics[-1].name)
        if "kl" in asked.readings and sigma is not None:
            both = VariantEngine(self.live, {BASELINE: None, "tried": sigma}, rows=2 * self.batch_size)
            moved = both.divergences(asked.examples, [BASELINE], control=control)["tried"]
            found["kl"] = np.array([each.kl[0] for each in moved], dtype=np.float64)
        return {reading: found[reading] for reading in asked.readings}


@dataclass(frozen=True)
class _Part:
    """A part of a slice: where the log has it, and what is read of which rows."""

    place: RequestKey
    examples: Sequence[Example]
    encoding: Encoding
    readings: tuple[Reading, ...]


def _kept(known: Any, asked: _Part) -> Numbers | None:
    """What the log has of a part; None where it does not have all of it."""
    found = {reading: _numbers_of(known, reading, len(asked.examples)) for reading in asked.readings}
    whole: Numbers = {reading: numbers for reading, numbers in found.items() if numbers is not None}
    return whole if len(whole) == len(found) else None


def _numbers_of(known: Any, reading: Reading, rows: int) -> Float64[ndarray, " row"] | None:
    try:
        found = np.array(known[reading], dtype=np.float64)
    except (TypeError, ValueError, LookupError):
        return None
    return found if found.shape == (rows,) else None
