"""Where in the model an update acts, and how its two factors lie in the file's tensors.

Every update is kept as ΔW = scaling·B·A with B (out, rank) and A (rank, in). `out_by_rank` and
`rank_by_in` are views into a tensor as PEFT stores it, so that writing into the view edits the tensor.
"""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from jaxtyping import Float64, Shaped
from numpy import ndarray


def float64(stored: Shaped[ndarray, "*shape"]) -> Float64[ndarray, "*shape"]:
    """A copy of numbers as they are stored, row after row; exact."""
    rows = np.ascontiguousarray(stored)
    if rows.dtype == ml_dtypes.bfloat16:
        # the first half of a float32: three times as fast as the cast
        rows = (rows.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return rows.astype(np.float64)


@dataclass(frozen=True)
class Site:
    """A linear layer, GPT-2's transposed one included: the tensors are the factors."""

    module: str

    def out_by_rank(self, tensor: Shaped[ndarray, "..."]) -> Shaped[ndarray, "out rank"]:
        return tensor

    def rank_by_in(self, tensor: Shaped[ndarray, "..."]) -> Shaped[ndarray, "rank in"]:
        return tensor


@dataclass(frozen=True)
class EmbeddingSite(Site):
    """An embedding table: `in` is the vocabulary, `out` the embedding; the table moves by (s·B·A)ᵀ."""


@dataclass(frozen=True)
class ConvSite(Site):
    """A convolution with one group: `in` runs over channels × kernel; B's own kernel is a single point.

    `kernel` holds the channels and the kernel's extent in every dimension.
    """

    kernel: tuple[int, ...]

    def out_by_rank(self, tensor: Shaped[ndarray, "..."]) -> Shaped[ndarray, "out rank"]:
        return tensor.reshape(tensor.shape[0], -1)

    def rank_by_in(self, tensor: Shaped[ndarray, "..."]) -> Shaped[ndarray, "rank in"]:
        return tensor.reshape(tensor.shape[0], -1)


@dataclass(frozen=True)
class FlatSite(Site):
    """AdaLoRA's linear layer or two-dimensional convolution, whose kernels lie flat in A: only the base tells which."""


@dataclass(frozen=True)
class ParameterSite(Site):
    """One expert of a raw parameter (`target_parameters`): PEFT stacks the experts' factors.

    Expert e of E owns rows e·r … (e+1)·r of A, and every E-th column of B from column e.
    """

    parameter: str
    expert: int
    experts: int

    def out_by_rank(self, tensor: Shaped[ndarray, "..."]) -> Shaped[ndarray, "out rank"]:
        return tensor[:, self.expert :: self.experts]

    def rank_by_in(self, tensor: Shaped[ndarray, "..."]) -> Shaped[ndarray, "rank in"]:
        rank = tensor.shape[0] // self.experts
        return tensor[self.expert * rank : (self.expert + 1) * rank]
