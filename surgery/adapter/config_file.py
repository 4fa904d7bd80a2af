"""The file `adapter_config.json`: read whole and within bounds, as PEFT reads it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surgery.errors import AdapterError
from surgery.files import read_limited

CONFIG_FILE = "adapter_config.json"
_MOST_BYTES = 4 << 20  # a rank of its own for each of fifty thousand experts


@dataclass(frozen=True)
class ConfigFile:
    """A config: its settings, the bytes of its file, and the same text as PEFT reads it, plain UTF-8."""

    settings: Mapping[str, Any]
    raw: bytes
    plain: bytes


def read_config(folder: Path, source: str) -> ConfigFile:
    """The config of an adapter's folder; raises `AdapterError` when it is missing or no PEFT config."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise AdapterError(
            f"{source!r} has no {CONFIG_FILE}, so it is no PEFT adapter",
            "name the folder that peft's save_pretrained wrote",
        )
    data = read_limited(file, _MOST_BYTES)
    try:
        text = data.decode(json.detect_encoding(data))
        config = json.loads(text, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise AdapterError(
            f"{CONFIG_FILE} is not JSON ({str(error)[:120]})", "restore the file peft wrote"
        ) from error
    if not isinstance(config, dict):
        raise AdapterError(f"{CONFIG_FILE} is not an object", "restore the file peft wrote")
    return ConfigFile(config, data, text.encode())


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in which no name stands twice: readers differ on which of the two counts."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found
