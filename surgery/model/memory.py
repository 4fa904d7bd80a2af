"""How much memory there is, how much the rows of a batch take, and how a backward pass takes less.

Estimates are upper ones from a model's config. They only choose how large a batch is tried first; a batch that does not fit is halved by those who run it.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.errors import BaseModelError

if TYPE_CHECKING:
    import torch

_UNKNOWN = 4 << 30  # where a system does not say what is free


@dataclass(frozen=True)
class Footprint:
    """Bytes by what a forward pass without gradients holds at once.

    `cached`: keys and values of one token in all layers; `token`: the activations of one token in one layer, for only
    one is at work; `pair`: the attention of one token to another; `logits`: one position over the vocabulary,
    with the float32 copies it is scored in.
    """

    cached: int
    token: int
    pair: int
    logits: int

    def forward(self, tokens: int, positions: int, *, cached: int = 0) -> int:
        """One row of `tokens` new tokens with logits at the last `positions`, after `cached` earlier tokens."""
        return tokens * self.token + tokens * (tokens + cached) * self.pair + positions * self.logits


def footprint(model: Any) -> Footprint:
    """What the rows of a causal language model take, after its config and dtype."""
    config = model.config.get_text_config()
    width = model.dtype.itemsize  # what a quantised model computes in
    hidden = _size(config, "hidden_size", 4096)
    heads = _size(config, "num_attention_heads", 1)
    head = _size(config, "head_dim", max(1, hidden // heads))
    inside = _size(config, "intermediate_size", 4 * hidden)
    layers, sharing = _size(config, "num_hidden_layers", 32), _size(config, "num_key_value_heads", heads)
    cached = 2 * layers * sharing * head * width
    # queries, keys, values, the residual and the two products of an MLP, with the updates beside them
    token = (8 * hidden + 4 * heads * head + 4 * inside) * width
    # fused kernels hold the mask alone, eager attention every head's weights and their float32 softmax
    eager = getattr(config, "_attn_implementation", "eager") == "eager"
    pair = heads * (2 * width + 4) if eager else 5
    return Footprint(cached, token, pair, _size(config, "vocab_size", 256_000) * (width + 8))


def _size(config: Any, name: str, default: int) -> int:
    try:
        value = getattr(config, name, None)
    except Exception:  # some configs refuse to name one number for what differs from layer to layer
        value = None
    return int(value) if isinstance(value, int) and value > 0 else default


def free_bytes(device: "torch.device") -> int:
    """What can still be allocated on a device; on the host, within the limits of its container."""
    import torch

    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reusable
    return _free_host_bytes(Path("/proc/meminfo"), Path("/sys/fs/cgroup"))


def _free_host_bytes(meminfo: Path, group: Path) -> int:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, KeyError):
        try:
            # half of what is built in: nothing tells how much of it is in use
            free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        except (OSError, ValueError, AttributeError):
            free = _UNKNOWN
    try:
        limit = int((group / "memory.max").read_text())  # the word "max" where there is no limit
        used = int((group / "memory.current").read_text())
        statistics = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # files in the page cache count as used until something else needs the room
        free = min(free, limit - used + int(statistics.get("inactive_file", 0)))
    except (OSError, ValueError):
        pass
    return max(0, free)


# of torch on the host; and of oneDNN, which says so when there is no room for a kernel that it has chosen
_NO_ROOM = re.compile(r"can't allocate memory|could not create a (primitive(?! descriptor)|memory object)")


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that an allocation failed, on a device or on the host."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _NO_ROOM.search(str(error)) is not None


def release() -> None:
    """Give back what torch keeps for later; call it when nothing refers to the failed work any more."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def recomputing(model: Any) -> Iterator[None]:
    """Keep only the inputs of a model's layers during a forward pass that gradients flow through.

    The layers are told to recompute without being put into training mode, so dropout stays off. Raises
    `BaseModelError` for a model without such layers.
    """
    from torch.utils.checkpoint import checkpoint
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise BaseModelError(
            f"{type(model).__name__} has no gradient checkpointing",
            "calibrate without it, in smaller batches",
        )
    # a layer under accelerate has a forward of its own already, which moves its inputs
    own = {layer: layer.__dict__.get("forward") for layer in layers}
    for layer in layers:
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=False)
    try:
        yield
    finally:
        for layer, forward in own.items():
            del layer.forward
            if forward is not None:
                layer.forward = forward
