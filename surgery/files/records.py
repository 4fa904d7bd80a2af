"""Checks of records that came from YAML or JSON, and numbers that JSON has no word for."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from surgery.errors import RecipeError, SurgeryError


def mapping_of(value: Any, where: str, refusal: type[SurgeryError] = RecipeError) -> Mapping[Any, Any]:
    """A mapping, none for what was left empty; raises `refusal` for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise refusal(f"{where} is not a list of names and values", "write one name: value on each line")
    return value


def number_of(value: Any, where: str) -> float:
    """The number at `where` of a record; raises `RecipeError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecipeError(f"{where} is {value!r}, not a number", "write a number")
    try:
        return float(value)
    except OverflowError:
        raise RecipeError(f"{where} is too large a number", "write a smaller one") from None


def refuse_unknown(
    record: Mapping[str, Any], known: set[str], where: str, refusal: type[SurgeryError] = RecipeError
) -> None:
    """Raise `refusal` for a key that is not among `known`."""
    for key in record:
        if key not in known:
            raise refusal(f"{where} has no setting {key!r}", f"use {', '.join(sorted(known))}")


def without_nan(value: Any) -> Any:
    """NaN and numpy scalars as JSON can hold them: NaN becomes null."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
