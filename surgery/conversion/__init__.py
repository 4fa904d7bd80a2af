"""From adapters of other formats and types to a LoRA that opens, with the measured error."""

from surgery.conversion.convert import MLX, Source, convert, convertible
from surgery.conversion.errors_of_updates import error_of_dense, error_of_product
from surgery.conversion.lora_folder import Lora
from surgery.conversion.mlx import MlxAdapter, lora_of_mlx, read_mlx
from surgery.conversion.plan import ENERGY, Conversion, ConversionPlan, LogitError, UpdateError

__all__ = [
    "ENERGY",
    "MLX",
    "Conversion",
    "ConversionPlan",
    "LogitError",
    "Lora",
    "MlxAdapter",
    "Source",
    "UpdateError",
    "convert",
    "convertible",
    "error_of_dense",
    "error_of_product",
    "lora_of_mlx",
    "read_mlx",
]
