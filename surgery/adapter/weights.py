"""Read an adapter's weights: safetensors, or a pickle restricted to tensors, as numpy arrays.

Nothing in a file is ever executed, and no file makes this room claim more memory than it holds.
"""

import hashlib
import json
import pickletools
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

from surgery.adapter.tensor_names import MOST_TENSORS, check_names
from surgery.errors import AdapterError, first_line
from surgery.files import file_stamp

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE = "adapter_model.safetensors"
PICKLED_FILE = "adapter_model.bin"
_MOST_HEADER = 64 << 20  # of safetensors: 300 bytes for each of the most tensors that a model has
_MOST_PICKLE = 64 << 20
# the release that closed the last known way (CVE-2026-24747) around torch's restricted unpickler
_SAFE_TORCH = (2, 10)
# what a dictionary of tensors is made of; torch's own list has more, `bytearray` of any size among it
_PLAIN_GLOBALS = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")


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
    file = plain if plain.is_file() else pickled
    if not file.is_file():
        raise AdapterError(
            f"{source!r} has no {WEIGHTS_FILE}", "name the folder that peft's save_pretrained wrote"
        )
    before = file_stamp(file)
    tensors, metadata = _safetensors(file) if file is plain else (_pickled(file), {})
    check_names(tuple(tensors))
    sha256 = weights_digest(folder)
    if file_stamp(file) != before:
        raise AdapterError(f"{source!r} changes while it is read", "wait until it is saved, then open it again")
    return Weights(file.name, tensors, metadata, sha256)


def read_tensors(file: Path) -> dict[str, Shaped[ndarray, "..."]]:
    """The tensors of one safetensors file by their names; raises `AdapterError` when they cannot be read."""
    tensors = _safetensors(file)[0]
    check_names(tuple(tensors))
    return tensors


def weights_digest(folder: Path) -> str:
    """The SHA-256 of the file that PEFT would load from `folder`; raises `OSError` where there is none."""
    file = folder / WEIGHTS_FILE
    with (file if file.is_file() else folder / PICKLED_FILE).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _safetensors(file: Path) -> tuple[dict[str, ndarray], dict[str, str]]:
    try:
        _check_header(file)
        with safe_open(str(file), framework="np") as handle:
            metadata = dict(handle.metadata() or {})
            return {key: handle.get_tensor(key) for key in handle.keys()}, metadata  # noqa: SIM118
    except AdapterError:
        raise
    except (
        SafetensorError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        raise AdapterError(f"{file.name} cannot be read ({str(error)[:120]})", "download it again") from error


def _check_header(file: Path) -> None:
    """What the library lets pass: a tensor named twice, of which it drops one; a header of a million tensors."""
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

    def kept(pairs: list[tuple[str, Any]]) -> None:
        names[:] = [name for name, _ in pairs]  # the outermost object comes last

    json.loads(header, object_pairs_hook=kept)
    check_names([name for name in names if name != "__metadata__"])
    if len(set(names)) < len(names):
        raise AdapterError(f"{file.name} names a tensor twice", "download it again")


def _pickled(file: Path) -> dict[str, ndarray]:
    import torch

    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < _SAFE_TORCH:
        raise AdapterError(
            f"{file.name} is a pickle, and torch {torch.__version__} is not safe with one",
            f"install torch {'.'.join(map(str, _SAFE_TORCH))} or newer, or save the adapter again as safetensors",
        )
    try:
        _check_pickle(file)
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except AdapterError:
        raise
    except Exception as error:  # the unpickler raises whatever a damaged or hostile file provokes
        raise AdapterError(
            f"{file.name} is no pickle of plain tensors ({first_line(error)})",
            "save the adapter again as safetensors",
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items()
    ):
        raise AdapterError(f"{file.name} holds more than named tensors", "save the adapter again as safetensors")
    # a view with zero strides claims any size for a few bytes
    if sum(tensor.numel() * tensor.element_size() for tensor in state.values()) > 4 * file.stat().st_size:
        raise AdapterError(f"{file.name} claims more numbers than it holds", "use an intact copy of the adapter")
    return {key: _numpy(tensor, key) for key, tensor in state.items()}


def _check_pickle(file: Path) -> None:
    """Refuse before anything is built from it what is no archive of tensors as torch has written it since 1.6."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise AdapterError(f"{file.name} is a compressed archive", "save the adapter again with peft")
        pickles = [member for member in members if member.filename.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1 or len({member.filename for member in members}) < len(members):
            raise ValueError("not one data.pkl")
        if pickles[0].file_size > _MOST_PICKLE:
            raise ValueError(f"a pickle of {pickles[0].file_size:,} bytes")
        content = archive.read(pickles[0])
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            raise ValueError(f"the instruction {opcode.name}")
        if opcode.name == "GLOBAL" and argument not in _PLAIN_GLOBALS:
            module, _, name = str(argument).partition(" ")
            if module != "torch" or not name.endswith("Storage"):
                raise ValueError(f"it asks for {module}.{name}")


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
