"""Arrays with a record beside them in one file, as results of long passes are kept in SURGERY_HOME."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy import ndarray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from surgery.files import read_limited, write_kept

_MOST = 2 << 30


def keep_arrays(file: Path, what: str, about: Mapping[str, Any], arrays: Mapping[str, ndarray]) -> None:
    """Write contiguous arrays and a JSON record, whole or not at all; raises `DataError`, which names `what`."""
    data = save(dict(arrays), {"about": json.dumps(about)})
    write_kept(file, data, what, "make room in SURGERY_HOME")


def kept_arrays(file: Path) -> tuple[dict[str, Any], dict[str, ndarray]]:
    """The record and the arrays; raises `ValueError` where there is no such file, or no intact one."""
    try:
        data = read_limited(file, _MOST)
        length = int.from_bytes(data[:8], "little")
        about = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["about"])
        arrays = load(data)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file.name} is not intact") from error
    if not isinstance(about, dict):
        raise ValueError(f"{file.name} has no record")
    return about, arrays
