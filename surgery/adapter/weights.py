"""Read an adapter's weights: safetensors, or a pickle restricted to tensors, as numpy arrays.

Nothing in a file is ever executed, and no file makes this room claim more memory than it holds.
"""

import hashlib
import pickletools
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from jaxtyping import Shaped
from numpy import ndarray

from surgery.adapter.safetensors_file import ReadFile, Tensors, read_safetensors
from surgery.adapter.tensor_names import check_names
from surgery.errors import AdapterError, first_line
from surgery.files import digest, file_stamp

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE = "adapter_model.safetensors"
PICKLED_FILE = "adapter_model.bin"
SHARD = re.compile(r"adapter_model-(\d{5})-of-(\d{5})\.safetensors", re.ASCII)
_MOST_PICKLE = 64 << 20
# the release that closed the last known way (CVE-2026-24747) around torch's restricted unpickler
_SAFE_TORCH = (2, 10)
# what a dictionary of tensors is made of; torch's own list has more, `bytearray` of any size among it
_PLAIN_GLOBALS = ("collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter")


@dataclass(frozen=True)
class Weights:
    """Every tensor of the files in its own dtype, their number, their metadata and the SHA-256 of their bytes."""

    files: int
    tensors: Tensors
    metadata: Mapping[str, str]
    sha256: str


def read_weights(folder: Path, source: str, held: Tensors | None = None) -> Weights:
    """The weights PEFT would load from `folder`: safetensors first, then `.bin`; else safetensors in shards.

    held: tensors in memory, see `read_safetensors`.

    Raises `AdapterError` when there are none or they cannot be read.
    """
    files = weight_files(folder)
    if not files:
        raise AdapterError(
            f"{source!r} has no {WEIGHTS_FILE}", "name the folder that peft's save_pretrained wrote"
        )
    before = [file_stamp(file) for file in files]
    tensors: dict[str, ndarray] = {}
    metadata: dict[str, str] = {}
    digests: list[str] = []
    for file in files:
        found = _pickled(file) if file.name == PICKLED_FILE else read_safetensors(file, held)
        if twin := next((key for key in found.tensors if key in tensors), None):
            raise AdapterError(f"tensor {twin!r} stands in two shards", "download them again")
        tensors |= found.tensors
        metadata |= found.metadata
        digests.append(found.sha256)
    check_names(tuple(tensors))
    _refuse_ungathered(tensors)
    if [file_stamp(file) for file in files] != before:
        raise AdapterError(f"{source!r} changes while it is read", "wait until it is saved, then open it again")
    return Weights(len(files), tensors, metadata, _joined(digests))


def weights_among(names: Collection[str]) -> list[str]:
    """Which of the files in a folder are its weights: the one that PEFT would load, or all shards in their order.

    Shards are known by their names alone: what an index says is never taken for a path.
    """
    whole = next((name for name in (WEIGHTS_FILE, PICKLED_FILE) if name in names), None)
    return [whole] if whole is not None else sorted(filter(SHARD.fullmatch, names))


def weight_files(folder: Path) -> list[Path]:
    """The files of the weights that PEFT would load from `folder`, or all shards; empty where there are none.

    Raises `AdapterError` where shards are missing.
    """
    names = weights_among({file.name for file in folder.glob("adapter_model*") if file.is_file()})
    found = [match.groups() for name in names if (match := SHARD.fullmatch(name))]
    if not found:
        return [folder / name for name in names]
    total = found[-1][1]
    wanted = [(f"{number:05d}", total) for number in range(1, int(total) + 1)]
    if found != wanted:
        missing = next((int(number) for number, of in wanted if (number, of) not in found), None)
        which = "they are not those of one file" if missing is None else f"number {missing} is not there"
        raise AdapterError(f"the weights are in {len(found)} shards, and {which}", "download all shards again")
    return [folder / f"adapter_model-{number}-of-{total}.safetensors" for number, _ in wanted]


def read_tensors(file: Path) -> Tensors:
    """The tensors of one safetensors file by their names; raises `AdapterError` when they cannot be read."""
    tensors = read_safetensors(file).tensors
    check_names(tuple(tensors))
    return tensors


def weights_digest(folder: Path) -> str:
    """The SHA-256 of the file that PEFT would load from `folder`, or of those of its shards; raises `OSError` without."""
    return _joined([_sha256(file) for file in weight_files(folder) or [folder / WEIGHTS_FILE]])


def _sha256(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _joined(digests: Sequence[str]) -> str:
    return digests[0] if len(digests) == 1 else digest(digests)


def _refuse_ungathered(tensors: Mapping[str, ndarray]) -> None:
    """Sharded training holds pieces, and saves nothing, or empty tensors, where nobody gathers them."""
    # AdaLoRA leaves nothing of a module that it pruned, but matrices in three parts
    pruning = any(".lora_E" in key for key in tensors)
    empty = [
        key
        for key, tensor in tensors.items()
        if tensor.size == 0 and ".lora_" in key and not (pruning and tensor.ndim == 2)
    ]
    if empty or not tensors:
        found = f"{len(empty)} factors are empty, such as {empty[0]!r}" if empty else "the file holds no tensors"
        raise AdapterError(
            f"{found}: sharded training (DeepSpeed ZeRO-3, FSDP) saved them before the weights were gathered",
            "gather them where it was trained, with zero_to_fp32.py of the checkpoint or a full state dict of FSDP, "
            "and save the adapter from those",
        )


def all_finite(tensor: Shaped[ndarray, "..."]) -> bool:
    """Whether a tensor holds neither NaN nor infinity, nor what is infinite in float32."""
    if tensor.dtype.kind in "iub":
        return True
    if tensor.dtype == ml_dtypes.bfloat16:  # NaN and infinity have every bit of the exponent set
        return tensor.size == 0 or int((tensor.view(np.uint16) & 0x7F80).max()) < 0x7F80
    if tensor.dtype != np.float64:
        return bool(np.isfinite(tensor.astype(np.float32, copy=False)).all())
    with np.errstate(over="ignore"):
        return bool(np.isfinite(tensor.astype(np.float32)).all())


def _pickled(file: Path) -> ReadFile:
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
    return ReadFile({key: _numpy(tensor, key) for key, tensor in state.items()}, {}, _sha256(file))


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
