"""What a conversion is asked for with, and what came of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from surgery.errors import AdapterError
from surgery.model import BaseChoice

ENERGY = 0.9999


@dataclass(frozen=True)
class ConversionPlan:
    """What is converted, and what of it the source does not say.

    source: the folder of the adapter.
    base: the model that the adapter was trained on, or that its training started from.
    residual_base: the folder of the model as an initialisation had changed it before training.
    initial: the folder of the adapter as it was saved before training.
    rank: of every converted module; None leaves it to `energy`.
    energy: the share of ‖ΔW‖² that a module's rank has to hold.
    scale: of an MLX adapter whose config leaves it open.
    data: rows whose logits are compared; random tokens without.
    """

    source: str
    base: BaseChoice | None = None
    residual_base: str = ""
    initial: str = ""
    rank: int | None = None
    energy: float = ENERGY
    scale: float | None = None
    data: str = ""

    def check(self) -> None:
        """Raise `AdapterError` for numbers out of range and for ways that exclude each other."""
        if self.rank is not None and self.rank < 1:
            raise AdapterError(f"rank {self.rank} is below 1", "give a positive whole number")
        if not 0 < self.energy <= 1:
            raise AdapterError(f"energy {self.energy!r} is not above 0 and at most 1", f"give such as {ENERGY}")
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale != 0):
            raise AdapterError(f"scale {self.scale!r} is no number other than 0", "give the scale of the training")
        if self.residual_base and self.initial:
            raise AdapterError("the residual base and the initial adapter are two ways", "name one of the two")


@dataclass(frozen=True)
class UpdateError:
    """‖ΔW‖ of a module in the source, and ‖ΔW′ − ΔW‖ of what it became, in Frobenius norm."""

    norm: float
    error: float
    rank: int


@dataclass(frozen=True)
class LogitError:
    """Largest |Δlogit| between source and result over the largest |logit|, on `rows` rows of `what`."""

    error: float
    rows: int
    what: str


@dataclass(frozen=True)
class Conversion:
    """A PEFT LoRA folder made of another adapter, read back, and how far it is from it.

    `kind` is what the source was; `modules` the error of ΔW by module; `logits` None where no base was at hand
    or nothing runs the source; `notes` are things worth telling.
    """

    folder: Path
    kind: str
    modules: Mapping[str, UpdateError]
    logits: LogitError | None
    notes: tuple[str, ...]

    @property
    def error(self) -> float:
        """‖ΔW′ − ΔW‖ over ‖ΔW‖ of all modules together; 0 for an adapter that changes nothing."""
        norm = math.hypot(*(module.norm for module in self.modules.values()))
        return math.hypot(*(module.error for module in self.modules.values())) / norm if norm else 0.0

    @property
    def largest(self) -> tuple[str, float]:
        """The module with the largest ‖ΔW′ − ΔW‖ / ‖ΔW‖, and that."""
        shares = {name: m.error / m.norm if m.norm else 0.0 for name, m in self.modules.items()}
        return max(shares.items(), key=lambda item: item[1])
