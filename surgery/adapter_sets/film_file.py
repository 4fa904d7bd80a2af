"""Films on disk, found again by the checkpoints that they are of, wherever these lie."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from surgery.adapter_sets.adapter_set import Member
from surgery.adapter_sets.film import Film, ModuleFilm
from surgery.adapter_sets.kept_arrays import keep_arrays, kept_arrays
from surgery.files import digest, films_folder

_FORMAT = "surgery-film-1"
_KINDS = {"match": np.int64, "degenerate": np.bool_}  # all others are float64
# axes of the arrays of a module
_AXES = {
    "sigma": "step rank",
    "norm": "step",
    "effective_rank": "step",
    "with_last": "side step rank",
    "with_before": "side step rank",
    "match": "step rank",
    "likeness": "step rank",
    "angles": "side step rank",
    "degenerate": "step rank",
}


def film_file(checkpoints: Sequence[Member]) -> Path:
    """Where the film of these checkpoints is, or would be, kept: named by their steps and the bytes of their files."""
    named = [f"{member.step} {member.digest}" for member in checkpoints]
    return films_folder() / f"{digest([_FORMAT, *named])[:32]}.safetensors"


def keep_film(film: Film, file: Path) -> None:
    """Write a film, whole or not at all; raises `DataError` where that cannot be done."""
    modules = list(film.modules.values())
    about = {
        "format": _FORMAT,
        "steps": list(film.steps),
        "modules": [[each.name, each.layer, each.family, *each.shape, each.rank] for each in modules],
    }
    arrays = {name: np.concatenate([getattr(each, name).ravel() for each in modules]) for name in _AXES}
    keep_arrays(file, "the film", about, arrays)


def kept_film(checkpoints: Sequence[Member]) -> Film | None:
    """The film of these checkpoints that was made earlier; None without one, or where its file is damaged."""
    try:
        found = _film(*kept_arrays(film_file(checkpoints)))
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    return found if found.steps == tuple(member.step for member in checkpoints) else None


def _film(about: dict[str, Any], arrays: dict[str, ndarray]) -> Film:
    """Raises `ValueError`, `KeyError`, `TypeError` or `OverflowError` where the parts do not fit together."""
    steps = tuple(int(step) for step in about["steps"])
    for name in _AXES:
        array = arrays[name]
        if array.dtype != _KINDS.get(name, np.float64) or array.ndim != 1 or np.isinf(array).any():
            raise ValueError(f"{name} is no array of a film")
    left, modules = {name: arrays[name] for name in _AXES}, {}
    for name, layer, family, out, into, rank in about["modules"]:
        sizes = {"side": 2, "step": len(steps), "rank": int(rank)}
        shapes = {each: [sizes[axis] for axis in axes.split()] for each, axes in _AXES.items()}
        parts = {each: left[each][: math.prod(shape)].reshape(shape) for each, shape in shapes.items()}
        left = {each: left[each][math.prod(shape) :] for each, shape in shapes.items()}
        if not 1 <= rank <= min(out, into) or not ((parts["match"] >= -1) & (parts["match"] < rank)).all():
            raise ValueError(f"the components of {name} do not fit it")
        at = None if layer is None else int(layer)
        modules[str(name)] = ModuleFilm(str(name), at, str(family), (int(out), int(into)), **parts)
    if about["format"] != _FORMAT or any(each.size for each in left.values()) or not modules or len(steps) < 2:
        raise ValueError("it is no film")
    return Film(steps, modules)
