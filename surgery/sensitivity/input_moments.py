"""Second moments of what enters the modules: how much of each input direction a slice really holds.

M = E[(Vᵀx)(Vᵀx)ᵀ] over the tokens x that enter a module, q its diagonal. Because U has orthonormal columns,
E‖ΔW x‖² = Σ σₖ² qₖ exactly, for that distribution of x: the functional energy of the follow-up to the paper
(TTtianTT/peft-sft-lab).
"""

import json
from collections.abc import Mapping, Sequence
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
    as stacked experts, or of which some tokens could not be told apart, is in neither. `tokens` counts those of the
    slice, by part, and `apart` those of the modules that see others: an encoder's see no answer. `base` tells that
    the inputs are those of the base without the adapter.
    """

    prompt: Mapping[str, Float64[ndarray, "rank rank"]]
    answer: Mapping[str, Float64[ndarray, "rank rank"]]
    tokens: Mapping[str, int] = field(default_factory=dict)
    apart: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
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
        tokens = self.apart.get(name, self.tokens)
        count = sum(tokens[each] for each in parts)
        if count == 0:
            raise DataError(f"no token of part {part!r} enters module {name!r}", "use another part")
        sums = {"prompt": self.prompt, "answer": self.answer}
        total: Float64[ndarray, "rank rank"] = np.sum([sums[each][name] for each in parts], axis=0)
        return total / count

    def q(self, name: str, part: str = "all") -> Float64[ndarray, " rank"]:
        """qₖ = E[(vₖᵀx)²], the diagonal of M; raises as `of` does."""
        return np.diagonal(self.of(name, part)).copy()


def moments_header(inputs: InputMoments) -> str:
    """What a file says of the moments beside their numbers."""
    apart = {name: dict(tokens) for name, tokens in inputs.apart.items()}
    return json.dumps({"tokens": dict(inputs.tokens), "apart": apart, "base": inputs.base})


def moment_tensors(inputs: InputMoments, names: Sequence[str]) -> dict[str, ndarray]:
    """The sums as a file holds them, by part and number of the module: the upper triangles, row after row."""
    sums = {"prompt": inputs.prompt, "answer": inputs.answer}
    return {
        f"M.{part}.{i}": by_name[name][np.triu_indices(len(by_name[name]))]
        for part, by_name in sums.items()
        for i, name in enumerate(names)
        if name in by_name
    }


def moments_read(
    header: str | None, ranks: Mapping[str, int], tensors: Mapping[str, ndarray]
) -> InputMoments | None:
    """What `moments_header` and `moment_tensors` wrote of modules of these ranks; None from files of earlier versions.

    Raises `ValueError`, `KeyError`, `TypeError` or `AttributeError` for anything else.
    """
    if header is None:
        return None
    about = json.loads(header)
    prompt, answer = (
        {
            name: _square(tensors[f"M.{part}.{i}"], rank)
            for i, (name, rank) in enumerate(ranks.items())
            if f"M.{part}.{i}" in tensors
        }
        for part in PARTS[1:]
    )
    tokens, apart = _counts(about["tokens"]), {str(name): _counts(own) for name, own in about["apart"].items()}
    if set(prompt) != set(answer):
        raise ValueError("the moments of prompts and answers are of different modules")
    return InputMoments(prompt, answer, tokens=tokens, apart=apart, base=bool(about["base"]))


def _counts(record: Mapping[str, object]) -> dict[str, int]:
    counts = {part: record[part] for part in PARTS[1:]}
    if any(type(count) is not int or count < 0 for count in counts.values()):
        raise ValueError("token counts that are no counts")
    return {part: int(str(count)) for part, count in counts.items()}


def _square(triangle: ndarray, rank: int) -> Float64[ndarray, "rank rank"]:
    """A symmetric matrix from its upper triangle."""
    if (
        triangle.shape != (rank * (rank + 1) // 2,)
        or triangle.dtype != np.float64
        or not np.isfinite(triangle).all()
    ):
        raise ValueError("moments of another shape than the module's")
    square = np.zeros((rank, rank))
    square[np.triu_indices(rank)] = triangle
    return np.triu(square, 1).T + square
