"""Trained tensors of an adapter that are not LoRA factors, put into a running model and taken out again.

Saved modules and biases take the place of the base model's own tensors; trained tokens take the place of
their rows. Tables of another vocabulary resize the embeddings while they are in, as
`resize_token_embeddings` would. An edit never touches them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from surgery.adapter import LORA_BIAS, TRAINED_TOKENS, TRAINING_ONLY, Adapter, module_path
from surgery.errors import AdapterError, BaseModelError
from surgery.model.heads import stands_for
from surgery.model.vocabulary import even_out, is_tied, lengths, make_room, tables


def update_biases(adapter: Adapter) -> dict[str, Tensor]:
    """scaling·bias by module path, for a LoRA trained with `lora_bias`."""
    scalings = {factors.site.module: factors.scaling for factors in adapter.modules.values()}
    biases = {}
    for key in adapter.extra:
        match = LORA_BIAS.match(module_path(key))
        if match and match["module"] in scalings:
            biases[match["module"]] = scalings[match["module"]] * as_tensor(adapter.tensors[key])
    return biases


def output_magnitudes(adapter: Adapter) -> dict[str, Tensor]:
    """The magnitude of every output by module path, for an adapter trained with DoRA."""
    found = {factors.site.module: factors.magnitude for factors in adapter.modules.values()}
    return {path: as_tensor(magnitude) for path, magnitude in found.items() if magnitude is not None}


def put_extras(model: nn.Module, adapter: Adapter) -> Iterator[Callable[[], None]]:
    """Put the tensors in one by one; each step yields what takes it out again.

    Raises `BaseModelError` for a tensor without a place of its shape in the base model.
    """
    before, tied, untrained = lengths(model), is_tied(model), False
    # whole tables before the rows of single tokens
    for key in sorted(adapter.extra, key=lambda key: TRAINED_TOKENS.match(module_path(key)) is not None):
        path = module_path(key)
        if TRAINING_ONLY.search(path) or LORA_BIAS.match(path):
            continue
        tokens = TRAINED_TOKENS.match(path)
        if tokens:
            yield from _put_rows(model, adapter, tokens["module"], key)
            continue
        module, _, leaf = stands_for(key).rpartition(".")
        owner, tensor = _owner(model, module, leaf, key), as_tensor(adapter.tensors[key])
        if getattr(owner, leaf).shape[1:] == tensor.shape[1:]:
            yield from make_room(model, owner, leaf, len(tensor))
        yield _replace(owner, leaf, tensor, key)
        untrained |= ".base_layer." in path and owner is tables(model)[0]
    yield from even_out(model, before, shared=tied and untrained)


def _put_rows(model: nn.Module, adapter: Adapter, module: str, key: str) -> Iterator[Callable[[], None]]:
    """Trained tokens hold whole rows, not differences; a tied output embedding shares them."""
    given = adapter.config.get("trainable_token_indices")
    named = given.items() if isinstance(given, dict) else [(module, given)]
    indices = next((rows for name, rows in named if module == name or module.endswith(f".{name}")), None)
    rows = as_tensor(adapter.tensors[key])
    table: Any = _owner(model, module, "weight", key).weight
    if not isinstance(indices, list) or not all(isinstance(i, int) and 0 <= i < table.shape[0] for i in indices):
        raise AdapterError(f"the config names no usable tokens for {key!r}", "restore the config")
    if rows.shape != (len(indices), table.shape[1]):
        raise AdapterError(
            f"{key!r} does not hold one row for each of {len(indices)} tokens", "restore the config"
        )
    trained = table.detach().clone()
    trained[torch.tensor(indices, device=table.device)] = rows.to(trained)
    for holder in [holder for holder in model.modules() if getattr(holder, "weight", None) is table]:
        yield _replace(holder, "weight", trained, key)


def _owner(model: nn.Module, module: str, leaf: str, key: str) -> nn.Module:
    owner = dict(model.named_modules()).get(module)
    if owner is None or not isinstance(getattr(owner, leaf, None), Tensor):
        raise BaseModelError(
            f"the adapter trained {key!r}, which the base model lacks", "name the base model it was trained on"
        )
    return owner


def _replace(owner: nn.Module, leaf: str, tensor: Tensor, key: str) -> Callable[[], None]:
    """Give one module a tensor of its own, even where it shared the old one; returns the way back."""
    old: Any = getattr(owner, leaf)
    if old.shape != tensor.shape:
        raise BaseModelError(
            f"{key!r} is {tuple(tensor.shape)} in the adapter and {tuple(old.shape)} in the base model",
            "name the base model it was trained on",
        )
    if old.device.type == "meta":
        raise BaseModelError(
            f"the adapter trained {key!r}, which this base keeps in host memory or on disk",
            "give the devices more memory, so that it stays on one of them",
        )
    new = tensor.to(old.device, old.dtype)
    setattr(owner, leaf, nn.Parameter(new, requires_grad=False) if leaf in owner._parameters else new)
    return lambda: setattr(owner, leaf, old)


def as_tensor(array: np.ndarray) -> Tensor:
    """A torch tensor of a file's array; numpy's bfloat16 and eight-bit floats are not torch's."""
    if array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2"):
        bits = array.view(np.int16 if array.dtype.itemsize == 2 else np.int8)
        return torch.from_numpy(bits.copy()).view(getattr(torch, array.dtype.name))
    return torch.from_numpy(array.copy())
