"""Mixtures of experts by their modules' paths: which expert a module belongs to, and the modules of one of them."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from surgery.adapter.module_paths import is_expert_number

T = TypeVar("T")


def expert_of(name: str) -> int | None:
    """The number of the expert that a module belongs to: what follows `experts` in its path; None outside of them."""
    parts = name.split(".")
    return next((int(part) for at, part in enumerate(parts) if is_expert_number(parts, at)), None)


def experts_of(names: Iterable[str]) -> list[int]:
    """The numbers of all experts among these modules, from the smallest on."""
    return sorted({number for name in names if (number := expert_of(name)) is not None})


def of_one_expert(modules: Mapping[str, T], expert: int) -> dict[str, T]:
    """The modules outside of the experts and those of one expert in every layer, in the order given."""
    return {name: module for name, module in modules.items() if expert_of(name) in (None, expert)}
