"""The base model an adapter was trained on: a folder, a GGUF file or a hub id with a revision.

A GGUF file is de-quantised once into a safetensors folder in the cache; every later load is a
plain folder load. No remote code is ever run and no pickle is ever read.
"""

import json
import re
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.adapter import CAUSAL_LM, TASKS
from surgery.data import CLASSIFIERS
from surgery.errors import BaseModelError, first_line
from surgery.files import DEMO_BASE, digest, user_path
from surgery.model.device_map import parse_device_map
from surgery.model.gguf import conversion_of, converted_gguf, demo_gguf
from surgery.model.heads import NO_HEAD, Shapes, brought, head_options, labels_of, refuse_unlabelled
from surgery.model.loading import file_sample, quiet_loading
from surgery.model.loss import padding_id
from surgery.model.model_class import model_class, refuse_task

if TYPE_CHECKING:
    from torch import nn

DTYPES = ("float32", "bfloat16", "float16")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*", re.ASCII)
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class LoadedBase:
    """A base model in memory with its tokenizer.

    `fingerprint` identifies the weights: config, file names, sizes and sixteen mebibytes of every
    weight file. `ways` are how its rows were found to be read, by the digest of the adapter that was attached.
    `task` is what it was loaded for, one of `TASKS`; `head` are the shapes of what of a classifier's head it lacks,
    because the adapter that it was loaded for brings it.
    """

    model: "nn.Module"
    tokenizer: Any
    location: str
    fingerprint: str
    ways: dict[tuple[str, str], Any] = field(default_factory=dict, compare=False, repr=False)
    task: str = CAUSAL_LM
    head: Shapes = field(default_factory=dict)

    @property
    def padding(self) -> int | None:
        """The token that fills rows up to one length.

        Any will do where padding is masked. A classifier looks for the token that its config names, in place of a
        mask or to count positions; None where it names none.
        """
        if self.task not in CLASSIFIERS:
            return padding_id(self.tokenizer)
        config: Any = self.model.config
        named = config.get_text_config().pad_token_id
        return None if named is None else int(named)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a classifier by number; empty for other models."""
        return labels_of(self.model.config) if self.task in CLASSIFIERS else ()


def load_base(
    location: str,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    task: str = CAUSAL_LM,
    head: Shapes = NO_HEAD,
) -> LoadedBase:
    """A base model for calibration and evaluation, frozen and in eval mode.

    location: a folder, a `.gguf` file, a hub id or `demo:smollm2`.
    revision: of a hub id.
    device: one device, or `auto` for a base that exceeds it, as `parse_device_map` reads it.
    dtype: precision of the weights.
    task: of the adapter that it is loaded for; see `Adapter.task`.
    head: what that adapter brings of a classifier's head; see `saved_head`.

    Raises `BaseModelError` when it cannot be found, is no model of the task or needs remote code, and `AdapterError`
    for a task that no model is run for.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer

    refuse_task(task)
    if dtype not in DTYPES:
        raise BaseModelError(f"dtype {dtype!r} is not known", f"use one of {', '.join(DTYPES)}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BaseModelError(f"device {device!r} was asked for but no CUDA device is here", "use device cpu")
    if task != CAUSAL_LM and location.lower().endswith(".gguf"):
        raise BaseModelError(
            f"{location!r} is a GGUF file, which is read as a causal language model, and the adapter is of a {TASKS[task]}",
            "name the folder or the hub id of the original model",
        )
    device_map = parse_device_map(device)
    source = resolve_base(location)
    options: dict[str, Any] = {"revision": revision} if revision and not Path(source).exists() else {}
    placed = device_map.options() if device_map is not None else {}
    try:
        with quiet_loading():
            config = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
            chosen = model_class(config, task)
            loaded: Any = chosen.from_pretrained(
                source,
                dtype=getattr(torch, dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
                **placed,
                **head_options(chosen, config, head),
            )
            tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
        model, loading = loaded
        model.requires_grad_(False).eval()
        if device != "cpu" and device_map is None:
            model.to(device)
    except BaseModelError:
        raise
    except Exception as error:  # the loaders run over files of any origin and raise whatever those provoke
        raise BaseModelError(
            f"the base model {location!r} could not be loaded on {device!r} ({first_line(error)})",
            "name a folder with config.json and safetensors weights, a .gguf file or a reachable hub id",
        ) from error
    if task in CLASSIFIERS:
        refuse_unlabelled(model.config, location)
    # transformers fills every gap with random numbers and a warning
    lacking = brought(loading, head, location)
    return LoadedBase(model, tokenizer, location, _fingerprint(source, revision), task=task, head=lacking)


def resolve_base(location: str) -> str:
    """The folder or hub id behind `location`, converting a GGUF file on first use."""
    if location == DEMO_BASE:
        return str(converted_gguf(demo_gguf()))
    if is_hub_id(location) and not Path(location).exists():
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
    source = resolve_base(location)
    return source, {"revision": revision} if revision and not Path(source).exists() else {}


def is_hub_id(location: str) -> bool:
    """Whether a location is written as `owner/name`; a folder of that name has precedence."""
    return _HUB_ID.fullmatch(location) is not None and not location.lower().endswith(".gguf")


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes: weights in the chosen dtype, and the working set of a calibration batch."""

    parameters: int
    weights: int
    working: int

    @property
    def total(self) -> int:
        return self.weights + self.working


def estimate_memory(location: str, *, dtype: str = "float32", tokens: int = 8 * 128) -> MemoryEstimate | None:
    """Memory for a base on this machine, read from its headers alone; None for a hub id.

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
            folder = Path(resolve_base(location))
            if not folder.is_dir():
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

    def named(*names: str) -> int:
        return next((int(config[name]) for name in names if config.get(name)), 0)

    hidden = named("hidden_size", "n_embd", "d_model")
    # an encoder's and a decoder's
    layers = named("num_hidden_layers", "n_layer", "num_layers", "encoder_layers") + named(
        "decoder_layers", "num_decoder_layers"
    )
    inside = named("intermediate_size", "d_ff", "encoder_ffn_dim")
    return parameters, layers, hidden, inside or 4 * hidden


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
    """The fingerprint that a base from `location` has once it is loaded; see `load_base`."""
    return _fingerprint(resolve_base(location), revision)


def _fingerprint(source: str, revision: str | None) -> str:
    folder = Path(source)
    if not folder.is_dir():
        return digest([source, revision or "main"])
    parts: list[bytes | str] = [(folder / "config.json").read_bytes()]
    for file in sorted(folder.glob("*.safetensors")):
        parts += file_sample(file)
    return digest(parts)
