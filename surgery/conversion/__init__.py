"""From adapters of other formats and types to a LoRA that opens, with the measured error."""

from surgery.conversion.convert import MLX, Source, convert, convertible
from surgery.conversion.of_peft_types import CONVERTIBLE
from surgery.conversion.plan import ENERGY, Conversion, ConversionPlan, LogitError, UpdateError

__all__ = [
    "CONVERTIBLE",
    "ENERGY",
    "MLX",
    "Conversion",
    "ConversionPlan",
    "LogitError",
    "Source",
    "UpdateError",
    "convert",
    "convertible",
]
