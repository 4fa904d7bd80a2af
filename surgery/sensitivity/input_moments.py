"""Second moments of what enters the modules: how much of each input direction a slice really holds.

M = E[(Vᵀx)(Vᵀx)ᵀ] over the tokens x that enter a module, q its diagonal. Because U has orthonormal columns,
E‖ΔW x‖² = Σ σₖ² qₖ exactly, for that distribution of x: the functional energy of the follow-up to the paper
(TTtianTT/peft-sft-lab).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.errors import DataError

PARTS = ("all", "prompt", "answer")


@dataclass(frozen=True)
class InputMoments:
    """Sums over tokens of (Vᵀx)(Vᵀx)ᵀ by module, of prompts and of answers apart, with the counts of their tokens.

    `prompt` and `answer` are symmetric, (rank, rank), summed in float64. A module whose input was not seen, such
    as stacked experts, is in neither. `base` tells that the inputs are those of the base without the adapter.
    """

    prompt: Mapping[str, Float64[ndarray, "rank rank"]]
    answer: Mapping[str, Float64[ndarray, "rank rank"]]
    tokens: Mapping[str, int] = field(default_factory=dict)
    base: bool = False

    def of(self, name: str, part: str = "all") -> Float64[ndarray, "rank rank"]:
        """M of a module over the tokens of one of `PARTS`, in squared units of the module's input.

        Raises `DataError` for a module that was not seen, another part, and a part without tokens.
        """
        if part not in PARTS:
            raise DataError(f"there is no part {part!r} of a row", f"use one of {', '.join(PARTS)}")
        if name not in self.prompt:
            raise DataError(f"the inputs of module {name!r} were not measured", "choose another module")
        parts = PARTS[1:] if part == "all" else (part,)
        count = sum(self.tokens[each] for each in parts)
        if count == 0:
            raise DataError(f"no token of the slice belongs to part {part!r}", "use another part")
        sums = {"prompt": self.prompt, "answer": self.answer}
        total: Float64[ndarray, "rank rank"] = np.sum([sums[each][name] for each in parts], axis=0)
        return total / count

    def q(self, name: str, part: str = "all") -> Float64[ndarray, " rank"]:
        """qₖ = E[(vₖᵀx)²], the diagonal of M; raises as `of` does."""
        return np.diagonal(self.of(name, part)).copy()
