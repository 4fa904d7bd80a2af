"""Inside the components of one module: what they read, what they write, and which tokens make them harmful.

Everything comes from one pass over rows of a calibration that is stored; shares of tokens add up to the gₖ stored there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.data import CalibrationPlan, Example, Slice, Token, token_texts
from surgery.errors import BaseModelError, DataError
from surgery.microscope.directions import SURE, share_below
from surgery.microscope.logit_lens import Lens, logit_lens
from surgery.microscope.read_tokens import read_tokens
from surgery.microscope.rows import Subject
from surgery.microscope.token_pass import TokenPass, measure_tokens
from surgery.model import is_offloaded
from surgery.progress import SILENT, Control
from surgery.sensitivity import calibration_slice, provenance_of

if TYPE_CHECKING:
    from surgery.model import LiveModel

SHOWN = 12


@dataclass(frozen=True)
class Reading:
    """A token that a component reads strongly: vₖᵀx there, and the share of random directions whose reading of this
    place in their own order is smaller.

    `row` counts the rows of the look, `token` the tokens that the model reads of it.
    """

    row: int
    token: int
    value: float
    share: float

    @property
    def beyond_random(self) -> bool:
        """Whether more than all but one in twenty random directions read as strongly."""
        return self.share >= SURE


@dataclass(frozen=True)
class Writing:
    """Tokens that uₖ, or −uₖ, raises: text, logit, and the logit in standard deviations of that over random directions.

    `share` is that of random directions whose top logit is smaller.
    """

    tokens: tuple[tuple[str, float, float], ...]
    share: float

    @property
    def beyond_random(self) -> bool:
        """Whether the top logit is larger than that of all but one in twenty random directions."""
        return self.share >= SURE


@dataclass(frozen=True)
class Look:
    """What a pass over rows showed of all components of one module.

    `rows` are positions in the calibration slice, `g` their stored sensitivities, (row, rank). `tokens` are those that
    the model reads of each row. `lens` is None where the module has none, which `no_lens` explains; `vocabulary` holds
    the text of each of its tokens.
    """

    module: str
    rows: tuple[int, ...]
    g: Float64[ndarray, "row rank"]
    tokens: tuple[tuple[Token, ...], ...]
    seen: TokenPass
    lens: Lens | None
    no_lens: str
    vocabulary: Mapping[int, str]

    def shares(self, row: int) -> Float64[ndarray, "token rank"]:
        """The shares of a row's tokens in its g, in nats per unit of σ; `row` counts those of the look."""
        end = int(np.cumsum(self.seen.lengths)[row])
        return self.seen.shares[end - self.seen.lengths[row] : end]

    def sums(self) -> Float64[ndarray, "row rank"]:
        """The shares of each row summed up; its stored g but for rounding."""
        return np.stack([self.shares(row).sum(axis=0) for row in range(len(self.rows))])

    def readings(self, component: int) -> tuple[Reading, ...]:
        """The tokens with the largest |vₖᵀx| over all rows, the largest first.

        Each is compared with the reading of random directions that has its place among their own largest.
        """
        values = np.where(self.seen.first, self.seen.projected[:, component], np.nan)
        order = np.argsort(-np.abs(np.nan_to_num(values)), kind="stable")[: min(SHOWN, self.seen.random.shape[1])]
        order = order[~np.isnan(values[order])]
        shares = share_below(np.abs(values[order]), self.seen.random[:, : len(order)])
        starts = np.cumsum([0, *self.seen.lengths])
        rows = np.searchsorted(starts, order, side="right") - 1
        return tuple(
            Reading(int(row), int(at - starts[row]), float(values[at]), float(share))
            for row, at, share in zip(rows, order, shares, strict=True)
        )

    def writings(self, component: int) -> tuple[Writing, Writing] | None:
        """What uₖ and −uₖ raise; None for a module without a lens."""
        if self.lens is None:
            return None
        plus, minus = (self._writing(self.lens, component, side) for side in (0, 1))
        return plus, minus

    def _writing(self, lens: Lens, component: int, side: int) -> Writing:
        numbers = (part[component, side].tolist() for part in (lens.tokens, lens.logits, lens.deviations))
        tokens = tuple(
            (self.vocabulary[token], logit, apart) for token, logit, apart in zip(*numbers, strict=True)
        )
        return Writing(tokens, float(share_below(lens.logits[component, side, :1], lens.random[:, None])[0]))


def look_inside(
    live: "LiveModel",
    plan: CalibrationPlan,
    subject: Subject,
    *,
    slice_: Slice | None = None,
    control: Control = SILENT,
) -> Look:
    """Look inside a module on rows of a stored calibration.

    live: the adapter in its running base model.
    plan: of that calibration; its rows are read again unless `slice_` gives them.
    subject: the module, and the rows as `chosen_rows` gives them.
    control: hears of rows; raises `Cancelled`.

    Raises `DataError` where rows, adapter or base are not those of the measurement, and as `measure_tokens` and
    `Subject.check`.
    """
    subject.check()
    calibration = calibration_slice(live, plan, slice_)
    known = subject.sensitivity.provenance
    if provenance_of(live, calibration, known.scope).key != known.key:
        raise DataError(
            "these rows, this adapter or this base model are not those of the stored sensitivities",
            "calibrate again: the shares of tokens are to add up to what is stored",
        )
    chosen = replace(calibration, examples=tuple(calibration.examples[row] for row in subject.rows))
    seen = measure_tokens(
        live,
        chosen,
        subject.module,
        batch_size=plan.batch_size,
        checkpointing=plan.checkpointing or is_offloaded(live.model),
        control=control,
    )
    tokenizer = live.tokenizer_for(plan.encoding)
    lens, no_lens = _lens(live, subject.module, chosen.examples)
    return Look(
        subject.module,
        subject.rows,
        subject.sensitivity.values[subject.module][list(subject.rows)],
        tuple(read_tokens(example, tokenizer, chosen.encoding) for example in chosen.examples),
        seen,
        lens,
        no_lens,
        {} if lens is None else token_texts(set(lens.tokens.flatten().tolist()), tokenizer),
    )


def _lens(live: "LiveModel", name: str, examples: Sequence[Example]) -> tuple[Lens | None, str]:
    """The lens of a module, or why it has none."""
    try:
        return logit_lens(live, name, min(examples, key=lambda example: example.length)), ""
    except BaseModelError as error:
        return None, str(error)
