"""Read one safetensors file: tensors as numpy arrays, metadata and the SHA-256 of its bytes, in one pass."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from jaxtyping import Shaped
from numpy import ndarray
from safetensors import SafetensorError, safe_open

from surgery.adapter.tensor_names import MOST_TENSORS, check_names
from surgery.errors import AdapterError

DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
_MOST_HEADER = 64 << 20  # of safetensors: 300 bytes for each of the most tensors that a model has
Tensors = Mapping[str, Shaped[ndarray, "..."]]


@dataclass(frozen=True)
class ReadFile:
    """What a file holds: its tensors, which cannot be written to, its metadata, and the SHA-256 of its bytes."""

    tensors: Tensors
    metadata: Mapping[str, str]
    sha256: str


def read_safetensors(file: Path, held: Tensors | None = None) -> ReadFile:
    """A safetensors file, read once from its beginning to its end.

    held: tensors in memory. What the file has byte for byte alike under the same name is given as the one that is
        held, so that a file and what was written to it take up memory once.

    Raises `AdapterError` for a damaged file and for a kind of number that is not known here.
    """
    try:
        header = _check_header(file)
        # the library checks that the tensors fill the file, each its place; it has no numpy type for eight-bit floats
        with safe_open(str(file), framework="np") as opened:
            metadata, keys = dict(opened.metadata() or {}), opened.keys()
        sha256, tensors = hashlib.sha256(), {}
        with FileIO(file) as handle:
            length = int.from_bytes(_next(handle, 8, sha256).tobytes(), "little")
            _next(handle, length, sha256)
            # of what is held no copy is kept; all else is read at once, which is faster
            whole = _next(handle, file.stat().st_size - handle.tell(), sha256) if held is None else None
            for key in sorted(keys, key=lambda key: header[key]["data_offsets"]):
                begin, end = header[key]["data_offsets"]
                part = _next(handle, end - begin, sha256) if whole is None else whole[begin:end]
                found, twin = _typed(part, key, header[key], begin), (held or {}).get(key)
                tensors[key] = twin if twin is not None and same_bytes(twin, found) else found
        return ReadFile({key: tensors[key] for key in keys}, metadata, sha256.hexdigest())
    except AdapterError:
        raise
    except (
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        raise AdapterError(f"{file.name} cannot be read ({str(error)[:120]})", "download it again") from error


def _typed(
    part: Shaped[ndarray, " byte"], key: str, about: Mapping[str, Any], begin: int
) -> Shaped[ndarray, "..."]:
    """Bytes that lie at `begin` as the tensor that the header says they are; not to be written to."""
    kind = DTYPES.get(about["dtype"])
    if kind is None:
        raise AdapterError(
            f"tensor {key!r} is stored as {about['dtype']}", "save it as float32, float16 or bfloat16"
        )
    part.flags.writeable = False
    # what does not lie at a multiple of its size can be viewed, and torch cannot read it
    return (part if begin % kind.itemsize == 0 else part.copy()).view(kind).reshape(about["shape"])


def _next(handle: FileIO, size: int, sha256: Any) -> Shaped[ndarray, " byte"]:
    """The bytes that come next, which are counted into the digest; raises `ValueError` where the file ends before."""
    found = np.empty(size, np.uint8)
    rest = found.data
    while rest:  # one read of an unbuffered file gives two GiB at most
        count = handle.readinto(rest)
        if not count:
            raise ValueError("it ends early")
        rest = rest[count:]
    sha256.update(found)
    return found


def same_bytes(one: Shaped[ndarray, "..."], other: Shaped[ndarray, "..."]) -> bool:
    """Whether two tensors are the same to the last bit, kind and shape included."""
    if one is other:
        return True
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.flags.c_contiguous and other.flags.c_contiguous and one.size:
        return np.array_equal(one.reshape(-1).view(np.uint8), other.reshape(-1).view(np.uint8))
    return one.tobytes() == other.tobytes()


def _check_header(file: Path) -> dict[str, Any]:
    """The entries of a header by tensor. Refused is what the library lets pass: a tensor named twice, of which it drops
    one; a header of a million tensors.
    """
    with file.open("rb") as handle:
        length = int.from_bytes(handle.read(8), "little")
        if length > _MOST_HEADER:
            raise AdapterError(f"{file.name} has a header of {length:,} bytes", "download it again")
        header = handle.read(length)
    if header.count(b'"data_offsets"') > MOST_TENSORS:
        raise AdapterError(
            f"{file.name} names more than {MOST_TENSORS:,} tensors", "use the adapter of a real model"
        )
    names: list[str] = []

    def kept(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names[:] = [name for name, _ in pairs]  # the outermost object comes last
        return dict(pairs)

    entries: dict[str, Any] = json.loads(header, object_pairs_hook=kept)
    check_names([name for name in names if name != "__metadata__"])
    if len(set(names)) < len(names):
        raise AdapterError(f"{file.name} names a tensor twice", "download it again")
    return {name: entry for name, entry in entries.items() if name != "__metadata__"}
