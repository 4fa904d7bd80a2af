"""How much memory a base model and a calibration on it take, told by the headers of its files."""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path

from surgery.errors import BaseModelError, first_line
from surgery.files import DEMO_BASE, user_path
from surgery.model.base import DTYPES, folder_at_hand
from surgery.model.gguf import demo_gguf

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


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
            folder = folder_at_hand(location, revision)
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
