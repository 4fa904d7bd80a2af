"""The trained factors of a module: B and A, and beside them AdaLoRA's diagonal E and the magnitudes that DoRA trains."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Shaped
from numpy import ndarray

from surgery.adapter.lora_config import RESTORE
from surgery.adapter.peft_names import SAVE_AGAIN
from surgery.adapter.site import ConvSite, Site, float64
from surgery.adapter.tensor_names import FactorPair
from surgery.adapter.weights import all_finite
from surgery.errors import AdapterError

_DTYPES = ("float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True)
class Factors:
    """The two trained factors of one module; ΔW = scaling · B · A (paper Eq. 1), scaling · B · diag(E) · A of AdaLoRA.

    `B` and `A` are views into the file's tensors and keep their dtype; `site` says where the update
    acts. `layer` is None for a module outside the layer stack. `mirror` asks for edits through A,
    because B is frozen (MiCA). `ruled_by` is the path that PEFT looks up rank and alpha under. `diagonal` is E, None for all but AdaLoRA; `magnitude` are the norms that
    DoRA gives the rows of W + ΔW, None for all others.
    """

    name: str
    layer: int | None
    family: str
    scaling: float
    B: Shaped[ndarray, "out rank"]
    A: Shaped[ndarray, "rank in"]
    key_B: str
    key_A: str
    site: Site
    mirror: bool = False
    diagonal: Shaped[ndarray, " rank"] | None = None
    magnitude: Shaped[ndarray, " out"] | None = None
    ruled_by: str = ""

    @property
    def rank(self) -> int:
        return int(self.A.shape[0])

    @property
    def right(self) -> Shaped[ndarray, "rank in"]:
        """What B is multiplied by: A as it is stored, or diag(E)·A in float64."""
        if self.diagonal is None:
            return self.A
        return float64(self.diagonal)[:, None] * float64(self.A)

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        trained = (self.A, self.B, self.diagonal, self.magnitude)
        return sum(each.size for each in trained if each is not None)


def diagonal_of(pair: FactorPair, tensors: Mapping[str, ndarray], rank: int) -> Shaped[ndarray, " rank"] | None:
    """The diagonal of E of a module trained with AdaLoRA; None for others. Raises `AdapterError` where it does not fit."""
    if pair.key_E is None:
        return None
    E = tensors[pair.key_E]
    if E.shape != (rank, 1):
        raise AdapterError(
            f"lora_E of module {pair.module!r} has shape {E.shape} where the config says ({rank}, 1)",
            RESTORE,
        )
    check_factor(E, "lora_E", pair.module)
    return E[:, 0]


def magnitude_of(
    pair: FactorPair, tensors: Mapping[str, ndarray], site: Site, outputs: int, expected: bool
) -> Shaped[ndarray, " out"] | None:
    """The magnitude of every output of a module trained with DoRA; None for others.

    pair: the module's keys.
    tensors: of the file.
    site: where the module's update acts.
    outputs: how many the module has.
    expected: whether the config is DoRA's.

    Raises `AdapterError` where the file and the config do not agree, and for another shape.
    """
    if (pair.key_magnitude is not None) != expected:
        has = (
            "a lora_magnitude_vector and use_dora is not set"
            if pair.key_magnitude
            else "none, and use_dora is set"
        )
        raise AdapterError(
            f"module {pair.module!r} has {has}",
            f"{RESTORE}, or use an intact copy of them",
        )
    if pair.key_magnitude is None:
        return None
    magnitude = tensors[pair.key_magnitude]
    shape = (1, outputs, *[1] * (len(site.kernel) - 1)) if isinstance(site, ConvSite) else (outputs,)
    if magnitude.shape != shape:
        raise AdapterError(
            f"lora_magnitude_vector of module {pair.module!r} has shape {magnitude.shape}, not {shape}", SAVE_AGAIN
        )
    check_factor(magnitude, "lora_magnitude_vector", pair.module)
    return magnitude.reshape(-1)


def check_factor(factor: Shaped[ndarray, "..."], part: str, name: str) -> None:
    """Raise `AdapterError` for a trained tensor of an unknown dtype, without numbers, or with NaN or infinity."""
    if factor.dtype.name not in _DTYPES:
        raise AdapterError(
            f"{part} of module {name!r} is stored as {factor.dtype.name}", f"use {', '.join(_DTYPES)}"
        )
    # QR would pass NaN on without a word
    if factor.size == 0 or not all_finite(factor):
        raise AdapterError(
            f"{part} of module {name!r} is empty or holds NaN or infinity", "use an intact checkpoint"
        )
