"""Running sums of what enters the modules over the batches of a pass, which a break interrupts at no cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray

from surgery.data import CLASSIFIERS, Example
from surgery.sensitivity.input_moments import InputMoments

if TYPE_CHECKING:
    from surgery.model import Seen

_UNTOLD = -1  # in place of a count, for a module of which some tokens cannot be told apart


@dataclass(frozen=True)
class InputSums:
    """Sums of (Vᵀx)(Vᵀx)ᵀ over prompt and answer tokens by module, added up batch by batch in float64, in place.

    `counts` are the tokens of each, a row for a module in the order of `sums`; they are -1 for a module that was
    once given tokens of which nobody can tell whose they are.
    """

    sums: Mapping[str, Float64[ndarray, "2 rank rank"]]
    counts: Int64[ndarray, "module 2"]

    @staticmethod
    def of(ranks: Mapping[str, int]) -> "InputSums":
        """Nothing seen yet, of modules with so many components."""
        sums = {name: np.zeros((2, rank, rank)) for name, rank in ranks.items()}
        return InputSums(sums, np.zeros((len(sums), 2), dtype=np.int64))

    def add(self, seen: "Mapping[str, Sequence[Seen | None]]") -> None:
        """Add what the modules were given in one batch; all of it or nothing, if memory runs out on the way."""
        fetched = {
            name: [None if call is None else (call.sums.cpu().double().numpy(), call.tokens) for call in calls]
            for name, calls in seen.items()
        }
        for row, (name, total) in enumerate(self.sums.items()):
            for call in fetched.get(name, ()):
                if call is None:
                    self.counts[row] = _UNTOLD
                elif self.counts[row, 0] != _UNTOLD:
                    total += call[0]
                    self.counts[row] += call[1]

    def moments(self, examples: Sequence[Example], *, base: bool = False) -> InputMoments:
        """The moments of the modules whose tokens were seen; `base` tells that σ was zero."""
        tokens = _tokens(examples)
        counts = {
            name: {"prompt": int(row[0]), "answer": int(row[1])}
            for name, row in zip(self.sums, self.counts, strict=True)
            if row.sum() > 0
        }
        # a product of a matrix with its own transpose need not be symmetric to the bit
        prompt, answer = (
            {name: (self.sums[name][part] + self.sums[name][part].T) / 2 for name in counts} for part in (0, 1)
        )
        apart = {name: own for name, own in counts.items() if own != tokens}
        return InputMoments(prompt, answer, tokens=tokens, apart=apart, base=base)

    def tensors(self) -> dict[str, ndarray]:
        """What a file of finished examples holds of them; `read` gives them back."""
        return {"tokens": self.counts, **{f"M.{i}": total for i, total in enumerate(self.sums.values())}}

    @staticmethod
    def read(handle: Any, ranks: Mapping[str, int]) -> "InputSums":
        """From an open file of modules with so many components; raises `ValueError` for what is not theirs."""
        found = InputSums.of(ranks)
        held = {name: handle.get_tensor(name) for name in found.tensors()}
        for name, room in found.tensors().items():
            if held[name].shape != room.shape or held[name].dtype != room.dtype:
                raise ValueError("not the sums of a measurement")
            room[:] = held[name]
        return found


def _tokens(examples: Sequence[Example]) -> dict[str, int]:
    """Prompt and answer tokens of a slice; a classifier's are all prompt."""
    answers = sum(0 if example.task in CLASSIFIERS else len(example.answer_ids) for example in examples)
    return {"prompt": sum(len(example.prompt_ids) for example in examples), "answer": answers}
