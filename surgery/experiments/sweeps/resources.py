"""What each piece of a sweep's work reserves on a cluster."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from surgery.errors import SweepError
from surgery.files import mapping_of, refuse_unknown


@dataclass(frozen=True)
class Resources:
    """What Ray reserves for each piece of work; None stands for what the size of the base asks for.

    `cpus` and `gpus` are whole counts, `memory_gib` is the host's memory and `gpu_memory_gib` that of one card.
    """

    cpus: int = 1
    gpus: int | None = None
    memory_gib: float | None = None
    gpu_memory_gib: float = 80.0


def parse_resources(value: Any) -> Resources:
    """The section of a sweep file; raises `SweepError` for a setting that is none, and for a number out of range."""
    record = mapping_of(value, "resources", SweepError)
    refuse_unknown(record, {field.name for field in dataclasses.fields(Resources)}, "resources", SweepError)
    for name, given in record.items():
        kinds: tuple[type, ...] = (int,) if name in ("cpus", "gpus") else (int, float)
        least = 0 if name == "gpus" else 1
        if type(given) not in kinds or not least <= given < float("inf"):
            kind = "whole number" if kinds == (int,) else "number"
            raise SweepError(f"resources.{name} cannot be {given!r}", f"write a {kind} from {least}")
    return Resources(**record)
