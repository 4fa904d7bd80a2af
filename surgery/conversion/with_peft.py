"""Adapters as PEFT runs them on their base: for their ΔW, their first factors and their logits."""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Shaped
from numpy import ndarray

from surgery.adapter import CONFIG_FILE, PREFIX, LoraRules, all_finite, task_of
from surgery.conversion.lora_folder import Lora
from surgery.errors import AdapterError, BaseModelError, SurgeryError, first_line
from surgery.model import BaseChoice, LoadedBase, base_weight, load_base

if TYPE_CHECKING:
    from peft import PeftModel

_OTHER_BASE = "name the base model that this adapter was trained on"
Tensors = Mapping[str, Shaped[ndarray, "..."]]


def load_choice(choice: BaseChoice, config: Mapping[str, Any]) -> LoadedBase:
    """A base of our own for the adapter of `config`: PEFT changes the layers of the model that it is given."""
    return load_base(choice, task=task_of(config))


def attach_with_peft(base: LoadedBase, folder: Path, config: Mapping[str, Any], tensors: Tensors) -> "PeftModel":
    """PEFT's own model of the adapter in `folder`, in eval mode.

    base: whose layers PEFT wraps, and changes where the adapter's initialisation does.
    folder: config and weights.
    config: what its file says.
    tensors: what its file holds.

    Raises `BaseModelError` where PEFT refuses, or would leave a tensor of the file without use.
    """
    from peft import PeftModel

    _check_patterns(base, config)
    with _peft(base):
        model = PeftModel.from_pretrained(base.model, str(folder)).eval()
    _refuse_unused(model, base, tensors)
    return model


def attach_anew(
    base: LoadedBase, folder: Path, config: Mapping[str, Any], tensors: Tensors
) -> "tuple[PeftModel, dict[str, Shaped[ndarray, '...']]]":
    """As `attach_with_peft`, and by key what PEFT initialised the factors with before it took those of the file."""
    from peft import PeftConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

    _check_patterns(base, config)
    with _peft(base):
        model = get_peft_model(base.model, PeftConfig.from_pretrained(str(folder))).eval()
        _refuse_unused(model, base, tensors)
        state = get_peft_model_state_dict(model, save_embedding_layers=False)
        first = {key: tensor.detach().float().cpu().numpy().copy() for key, tensor in state.items()}
        set_peft_model_state_dict(model, _as_torch(tensors))
    return model, first


def _as_torch(tensors: Tensors) -> dict[str, Any]:
    import torch

    return {key: torch.from_numpy(tensor.astype(np.float32)) for key, tensor in tensors.items()}


def _refuse_unused(model: "PeftModel", base: LoadedBase, tensors: Tensors) -> None:
    from peft import get_peft_model_state_dict

    known = get_peft_model_state_dict(model, save_embedding_layers=False)
    unused = [key for key, tensor in tensors.items() if key not in known or known[key].shape != tensor.shape]
    if unused:
        raise BaseModelError(
            f"PEFT has no place in the base {base.location!r} for {len(unused)} of {len(tensors)} tensors, "
            f"such as {unused[0]!r}",
            _OTHER_BASE,
        )


def _check_patterns(base: LoadedBase, config: Mapping[str, Any]) -> None:
    """Raise `AdapterError` for patterns of the config that take too long: PEFT tries them on every module."""
    rules = LoraRules(config)
    for name, _ in base.model.named_modules():
        rules.targets(name)


@contextmanager
def _peft(base: LoadedBase) -> Iterator[None]:
    """PEFT's refusals as ours, its warnings kept off standard error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except SurgeryError:
        raise
    except Exception as error:  # PEFT raises whatever a config and a model that do not fit provoke
        raise BaseModelError(
            f"PEFT cannot load this adapter on {base.location!r} ({first_line(error)})",
            f"name the base model that its {CONFIG_FILE} belongs to",
        ) from error


@contextmanager
def weights_replaced(
    base: LoadedBase, weights: Iterable[tuple[str, Float64[ndarray, "out in"]]]
) -> Iterator[None]:
    """The base with other weights (out, in) in these modules, made one after the other; as it was at the end.

    Raises `BaseModelError` for a module that the base lacks, or has in another shape or quantised.
    """
    import torch

    kept: list[tuple[Any, Any]] = []
    try:
        for name, weight in weights:
            layer, transposed = _linear(base, name)
            parameter = layer.weight
            exact = torch.from_numpy(np.ascontiguousarray(weight.T if transposed else weight))
            if exact.shape != parameter.shape or not parameter.is_floating_point():
                raise BaseModelError(
                    f"layer {name!r} of the base {base.location!r} cannot be given another weight",
                    "name the base model unquantised",
                )
            kept.append((parameter, parameter.data))
            parameter.data = exact.to(parameter.device, parameter.dtype)
        yield
    finally:
        for parameter, before in kept:
            parameter.data = before


def unchanged_base_note(lora: Lora, base: LoadedBase) -> Iterator[str]:
    """A warning where the base has more in a PiSSA adapter's directions than chance would leave there.

    PiSSA took the strongest directions of each weight into its factors, so hardly anything is left in them.
    """
    shares = []
    for name in lora.modules:
        A, B = (lora.tensors.get(f"{PREFIX}{name}.lora_{side}.weight") for side in "AB")
        if A is not None and B is not None:
            weight = weight_to_fit(base, name, (B.shape[0], A.shape[1]))
            rows = np.linalg.qr(A.astype(np.float64).T)[0]
            left = np.linalg.norm(weight @ rows) ** 2 / np.linalg.norm(weight) ** 2
            shares.append(left / (rows.shape[1] / weight.shape[1]))
    if shares and (median := float(np.median(shares))) > 1:
        yield (
            f"this base has {median:.1f} times as much in the adapter's directions as chance has, where PiSSA leaves "
            "next to nothing: it looks like the base before PiSSA changed it"
        )


def weight_to_fit(base: LoadedBase, name: str, shape: tuple[int, int]) -> Float64[ndarray, "out in"]:
    """`base_weight` of a linear layer that an adapter of this shape belongs to.

    Raises `BaseModelError` where the base has none of that name, or it has another shape.
    """
    _linear(base, name)
    weight = base_weight(base.model, name)
    if weight.shape != shape:
        raise BaseModelError(
            f"layer {name!r} of the base {base.location!r} is {weight.shape}, the adapter's {shape}", _OTHER_BASE
        )
    return weight.astype(np.float64)


def _linear(base: LoadedBase, name: str) -> tuple[Any, bool]:
    """A linear layer, and whether it keeps its weight transposed."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    try:
        layer = base.model.get_submodule(name)
    except AttributeError:
        layer = None
    if not isinstance(layer, (nn.Linear, Conv1D)):
        raise BaseModelError(f"the base {base.location!r} has no linear layer {name!r}", _OTHER_BASE)
    return layer, isinstance(layer, Conv1D)


def refuse_not_finite(tensors: Tensors) -> None:
    """Raise `AdapterError` for NaN or infinity."""
    for key, tensor in tensors.items():
        if not all_finite(tensor):
            raise AdapterError(f"tensor {key!r} holds NaN or infinity", "use an intact checkpoint")
