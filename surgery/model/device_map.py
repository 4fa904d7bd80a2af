"""A base model that exceeds one device: accelerate lays its layers over cards, host memory and disk.

A layer that is offloaded holds no weights between its passes: accelerate's hooks bring them to the device that
the layer computes on and drop them again. What is put beside such a layer has to be on that device.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.errors import BaseModelError
from surgery.files import offload_folder, user_path

if TYPE_CHECKING:
    import torch

_SIZE = re.compile(r"\d+(?:\.\d+)?(?:[KMGT]i?B)", re.ASCII)
_FORM = "write auto, or auto:0=60GiB,cpu=100GiB,disk=FOLDER"


@dataclass(frozen=True)
class DeviceMap:
    """How much of a base each device may hold, by card number or `cpu`; what is left goes to `folder` on disk.

    Devices that are not named hold what is free on them.
    """

    limits: tuple[tuple[int | str, str], ...] = ()
    folder: str | None = None

    def options(self) -> dict[str, Any]:
        """What transformers' `from_pretrained` takes; raises `BaseModelError` for a card that is not here."""
        from accelerate.utils import get_max_memory

        limits: dict[Any, Any] = get_max_memory()
        for device, size in self.limits:
            if device not in limits:
                cards = sorted(card for card in limits if card != "cpu")
                raise BaseModelError(f"there is no card {device}", f"use {cards or 'cpu and disk'}")
            limits[device] = size
        folder = user_path(self.folder, BaseModelError) if self.folder else offload_folder()
        return {"device_map": "auto", "max_memory": limits, "offload_folder": str(folder)}


def parse_device_map(device: str) -> DeviceMap | None:
    """The map of a device named `auto` or `auto:…`; None for any other device.

    Raises `BaseModelError` for a map that cannot be read.
    """
    kind, colon, text = device.partition(":")
    if kind != "auto":
        return None
    limits: dict[int | str, str] = {}
    folder = None
    for part in text.split(",") if colon else ():
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name == "disk" and value and folder is None:
            folder = value
        elif (name == "cpu" or re.fullmatch(r"\d{1,3}", name, re.ASCII)) and _SIZE.fullmatch(value):
            limits["cpu" if name == "cpu" else int(name)] = value
        else:
            raise BaseModelError(f"the device map {device!r} has no meaning at {part!r}", _FORM)
    return DeviceMap(tuple(limits.items()), folder)


def execution_device(module: Any) -> "torch.device":
    """Where a module computes: where accelerate brings its weights to, else where its tensors are."""
    import torch

    hook = getattr(module, "_hf_hook", None)
    for each in (hook, *getattr(hook, "hooks", ())):
        device = getattr(each, "execution_device", None)
        if device is not None:
            return torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    tensor = next(iter([*module.parameters(), *module.buffers()]), None)
    return tensor.device if tensor is not None else torch.device("cpu")


def is_offloaded(module: Any) -> bool:
    """Whether any weight in it is held elsewhere between passes."""
    return any(parameter.device.type == "meta" for parameter in module.parameters())
