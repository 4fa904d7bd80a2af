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
from surgery.experiments.search.objectives import Objective, Reading
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
    """

    live: "LiveModel"
    slices: Mapping[str, Calibration]
    objectives: Sequence[Objective]
    log: AnswerLog
    batch_size: int = 32

    @property
    def rows(self) -> int:
        """Rows of the largest slice, which parts are counted in."""
        return max(len(slice_.examples) for slice_ in self.slices.values())

    def changes(self, sigma: Variant, part: range, control: Control = SILENT) -> Numbers:
        """Paired changes against the unedited adapter by objective, of a part of the rows.

        sigma: σ′ by module.
        part: rows of the largest slice; of a smaller one the rows in proportion.
        control: raises `Cancelled`, and the part is then not measured.
        """
        found: Numbers = {}
        for whose, slice_ in self.slices.items():
            readings = tuple(sorted({e.reading for e in self.objectives if e.rows == whose and e.reading}))
            examples = slice_.examples[self._share(slice_, part.start) : self._share(slice_, part.stop)]
            asked = _Part(RequestKey(part.start, part.stop, whose), examples, slice_.encoding, readings)
            before, after = self._numbers(asked, None, control), self._numbers(asked, sigma, control)
            for each in self.objectives:
                if each.rows == whose and each.reading is not None:
                    found[each.name] = after[each.reading] - before[each.reading]
        return found

    def _share(self, slice_: Calibration, row: int) -> int:
        """The row of a slice where that row of the largest one stands in proportion."""
        return -(-row * len(slice_.examples) // self.rows)

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
    try:
        found: Numbers = {reading: np.array(known[reading], dtype=np.float64) for reading in asked.readings}
    except (TypeError, ValueError, LookupError):
        return None
    return found if all(numbers.shape == (len(asked.examples),) for numbers in found.values()) else None
