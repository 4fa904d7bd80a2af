"""The base model an adapter was trained on: a folder, a GGUF file or a hub id with a revision.

A GGUF file is de-quantised once into a safetensors folder in the cache; every later load is a
plain folder load. No remote code is ever run and no pickle is ever read.
"""

import json
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.errors import BaseModelError, first_line
from surgery.files import DEMO_BASE, digest, user_path
from surgery.model.device_map import parse_device_map
from surgery.model.gguf import conversion_of, converted_gguf, demo_gguf
from surgery.model.hub_base import base_on_hub, fetched_base
from surgery.model.loading import file_sample, quiet_loading
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from torch import nn

DTYPES = ("float32", "bfloat16", "float16")
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class LoadedBase:
    """A base model in memory with its tokenizer.

    `fingerprint` identifies the weights: config, file names, sizes and sixteen mebibytes of every
    weight file. `ways` are how its rows were found to be read, by the digest of the adapter that was attached.
    """

    model: "nn.Module"
    tokenizer: Any
    location: str
    fingerprint: str
    ways: dict[tuple[str, str], Any] = field(default_factory=dict, compare=False, repr=False)


def load_base(
    location: str,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    control: Control = SILENT,
) -> LoadedBase:
    """A causal language model for calibration and evaluation, frozen and in eval mode.

    location: a folder, a `.gguf` file, a hub id or `demo:smollm2`.
    revision: of a hub id.
    device: one device, or `auto` for a base that exceeds it, as `parse_device_map` reads it.
    dtype: precision of the weights.
    control: hears of the bytes of a hub id that is fetched, and may stop them.

    Raises `BaseModelError` when it cannot be found, is no causal model or needs remote code; and `Cancelled`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if dtype not in DTYPES:
        raise BaseModelError(f"dtype {dtype!r} is not known", f"use one of {', '.join(DTYPES)}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BaseModelError(f"device {device!r} was asked for but no CUDA device is here", "use device cpu")
    device_map = parse_device_map(device)
    source = _fetched(resolve_base(location), revision, control=control)
    placed = device_map.options() if device_map is not None else {}
    try:
        with quiet_loading():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                local_files_only=True,
                **placed,
            )
            tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=True)
        model, loading = loaded
        model.requires_grad_(False).eval()
        if device != "cpu" and device_map is None:
            model.to(device)
    except Exception as error:  # the loaders run over files of any origin and raise whatever those provoke
        raise BaseModelError(
            f"the base model {location!r} could not be loaded on {device!r} ({first_line(error)})",
            "name a folder with config.json and safetensors weights, a .gguf file or a reachable hub id",
        ) from error
    missing = sorted(loading["missing_keys"])
    if missing:
        # transformers fills the gap with random numbers and a warning
        raise BaseModelError(
            f"the base model {location!r} lacks {len(missing)} weights such as {missing[0]!r}",
            "use a whole checkpoint",
        )
    return LoadedBase(model, tokenizer, location, _fingerprint(source))


def resolve_base(location: str) -> str:
    """The folder or hub id behind `location`, converting a GGUF file on first use. Fetches nothing."""
    if location == DEMO_BASE:
        return str(converted_gguf(demo_gguf()))
    if base_on_hub(location) is not None:
        return location
    path = user_path(location, BaseModelError)
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise BaseModelError(f"no GGUF file at {location!r}", "check the path")
        return str(converted_gguf(path))
    if path.is_dir():
        if (path / "adapter_config.json").exists():
            # transformers would silently follow base_model_name_or_path from here
            raise BaseModelError(
                f"{location!r} is an adapter folder, not a base model", "name the model it was trained on"
            )
        if not (path / "config.json").is_file():
            raise BaseModelError(f"{location!r} has no config.json", "name a transformers model folder")
        return str(path)
    raise BaseModelError(
        f"no base model at {location!r}", "name a folder, a .gguf file or a hub id like owner/name"
    )


def resolve_unread(location: str, revision: str | None = None) -> tuple[str, dict[str, Any]]:
    """Where transformers finds a base's config and tokenizer, with its options for that; converts no weights."""
    path = demo_gguf() if location == DEMO_BASE else user_path(location, BaseModelError)
    if path.suffix.lower() == ".gguf" and path.is_file():
        target, there = conversion_of(path)
        return (str(target), {}) if there else (str(path.parent), {"gguf_file": path.name})
    return _fetched(resolve_base(location), revision, weights=False), {}


def _fetched(source: str, revision: str | None, *, weights: bool = True, control: Control = SILENT) -> str:
    """The folder of a source; a hub id's is the client's cache."""
    repository = base_on_hub(source, revision)
    if repository is None:
        return source
    folder = fetched_base(repository, weights=weights, control=control)
    control.begin("loading the base model")
    return str(folder)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes: weights in the chosen dtype, and the working set of a calibration batch."""

    parameters: int
    weights: int
    working: int

    @property
    def total(self) -> int:
        return self.weights + self.working


def estimate_memory(
    location: str, *, revision: str | None = None, dtype: str = "float32", tokens: int = 8 * 128
) -> MemoryEstimate | None:
    """Memory for a base on this machine, read from its headers alone; None for a hub id that is not in the cache.

    `tokens` is the size of one calibration batch. The working set counts what a backward pass
    keeps: about 12 vectors of the hidden size and 6 of the intermediate size per token and layer.
    """
    if dtype not in DTYPES:
        raise BaseModelError(f"dtype {dtype!r} is not known", f"use one of {', '.join(DTYPES)}")
    is_gguf = location == DEMO_BASE or location.lower().endswith(".gguf")
    gguf = demo_gguf() if location == DEMO_BASE else user_path(location, BaseModelError) if is_gguf else None
    try:
        if gguf is not None and gguf.is_file():
            parameters, layers, hidden, intermediate = _gguf_sizes(gguf)
        else:
            folder = _at_hand(location, revision)
            if folder is None:
                return None
            parameters, layers, hidden, intermediate = _folder_sizes(folder)
    except BaseModelError:
        raise
    except Exception as error:  # the readers raise whatever a damaged file provokes
        raise BaseModelError(
            f"the sizes of {location!r} cannot be read ({first_line(error)})", "use an intact copy of the model"
        ) from error
    width = _BYTES[dtype]
    return MemoryEstimate(
        parameters, parameters * width, tokens * layers * (12 * hidden + 6 * intermediate) * width
    )


def _folder_sizes(folder: Path) -> tuple[int, int, int, int]:
    from safetensors import safe_open

    parameters = 0
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), framework="np") as handle:
            parameters += sum(prod(handle.get_slice(key).get_shape()) for key in handle.keys())  # noqa: SIM118
    config = json.loads((folder / "config.json").read_text())
    config = config.get("text_config", config)
    hidden = int(config.get("hidden_size") or config.get("n_embd") or 0)
    layers = int(config.get("num_hidden_layers") or config.get("n_layer") or 0)
    return parameters, layers, hidden, int(config.get("intermediate_size") or 4 * hidden)


def _gguf_sizes(file: Path) -> tuple[int, int, int, int]:
    from surgery.model.gguf import PlainReader

    reader = PlainReader(str(file))
    parameters = sum(int(tensor.n_elements) for tensor in reader.tensors)

    def number(suffix: str) -> int:
        found = [field for key, field in reader.fields.items() if key.endswith(suffix)]
        return int(found[0].contents()) if found else 0

    hidden = number(".embedding_length")
    return parameters, number(".block_count"), hidden, number(".feed_forward_length") or 4 * hidden


def base_fingerprint(location: str, *, revision: str | None = None) -> str:
    """The fingerprint that a base from `location` has once it is loaded; see `load_base`.

    Of a hub id that is not in the cache, its name and revision alone.
    """
    folder = _at_hand(location, revision)
    return digest([location, revision or "main"]) if folder is None else _fingerprint(str(folder))


def _at_hand(location: str, revision: str | None) -> Path | None:
    """The folder of a base without a look at the network; None for a hub id that is not whole in the cache."""
    source = resolve_base(location)
    repository = base_on_hub(source, revision)
    if repository is None:
        return Path(source)
    try:
        return fetched_base(repository, download=False)
    except BaseModelError:
        return None


def _fingerprint(source: str) -> str:
    folder = Path(source)
    parts: list[bytes | str] = [(folder / "config.json").read_bytes()]
    for file in sorted(folder.glob("*.safetensors")):
        parts += file_sample(file)
    return digest(parts)
