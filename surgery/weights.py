"""Read an adapter's weights: safetensors, or a pickle restricted to tensors, as numpy arrays.

Nothing in a file is ever executed, and no file makes this room claim more memory than it holds.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from jaxtyping import Shaped
from numpy import ndarray
from safetensors import SafetensorError, safe_open

from surgery.errors import AdapterError

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE = "adapter_model.safetensors"
PICKLED_FILE = "adapter_model.bin"


@dataclass(frozen=True)
class Weights:
    """Every tensor of a file in its own dtype, the file's metadata and the SHA-256 of its bytes."""

    file: str
    tensors: Mapping[str, Shaped[ndarray, "..."]]
    metadata: Mapping[str, str]
    sha256: str


def read_weights(folder: Path, source: str) -> Weights:
    """The weights PEFT would load from `folder`: safetensors first, then `.bin`.

    Raises `AdapterError` when there are none or they cannot be read.
    """
    plain, pickled = folder / WEIGHTS_FILE, folder / PICKLED_FILE
    if plain.is_file():
        tensors, metadata = _safetensors(plain)
        file = plain
    elif pickled.is_file():
        tensors, metadata = _pickled(pickled), {}
        file = pickled
    else:
        raise AdapterError(
            f"{source!r} has no {WEIGHTS_FILE}", "name the folder that peft's save_pretrained wrote"
        )
    with file.open("rb") as handle:
        return Weights(file.name, tensors, metadata, hashlib.file_digest(handle, "sha256").hexdigest())


def _safetensors(file: Path) -> tuple[dict[str, ndarray], dict[str, str]]:
    try:
        with safe_open(str(file), framework="np") as handle:
            metadata = dict(handle.metadata() or {})
            return {key: handle.get_tensor(key) for key in handle.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        raise AdapterError(f"{file.name} cannot be read ({str(error)[:120]})", "download it again") from error


def _pickled(file: Path) -> dict[str, ndarray]:
    import torch

    try:
        archive = zipfile.is_zipfile(file)
        if archive:
            with zipfile.ZipFile(file) as members:
                if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
                    raise AdapterError(f"{file.name} is a compressed archive", "save the adapter again with peft")
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=archive)
    except AdapterError:
        raise
    except Exception as error:  # the unpickler raises whatever a damaged or hostile file provokes
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]
        raise AdapterError(
            f"{file.name} is no pickle of plain tensors ({first})", "save the adapter again as safetensors"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise AdapterError(f"{file.name} holds more than named tensors", "save the adapter again as safetensors")
    # a view with zero strides claims any size for a few bytes
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > 4 * file.stat().st_size:
        raise AdapterError(f"{file.name} claims more numbers than it holds", "use an intact copy of the adapter")
    return {key: _numpy(tensor, key) for key, tensor in state.items()}


def _numpy(tensor: "torch.Tensor", key: str) -> Shaped[ndarray, "..."]:
    import torch

    plain: Any = tensor.detach()
    try:
        if plain.dtype == torch.bfloat16:
            return np.ascontiguousarray(plain.view(torch.int16).numpy()).view(ml_dtypes.bfloat16)
        return np.array(plain.contiguous().numpy())
    except (TypeError, RuntimeError) as error:
        raise AdapterError(
            f"tensor {key!r} is of kind {plain.dtype}", "use float32, float16 or bfloat16"
        ) from error
