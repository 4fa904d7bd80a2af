"""The choice of a base model: where it is, on which device and in which precision."""

from dataclasses import dataclass


@dataclass(frozen=True)
class BaseChoice:
    """Which base model, and how it is held."""

    location: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
