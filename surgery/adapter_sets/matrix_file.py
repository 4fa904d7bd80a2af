"""Matrices on disk, found again by the adapters that they compare, wherever these lie."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy import ndarray

from surgery.adapter_sets.adapter_set import AdapterSet
from surgery.adapter_sets.kept_arrays import keep_arrays, kept_arrays
from surgery.adapter_sets.matrix import Matrix, Place
from surgery.files import digest, matrices_folder

_FORMAT = "surgery-matrix-1"
_ARRAYS = ("counts", "overlaps", "principals", "inner", "squares", "spread", "tails")


def matrix_file(adapters: AdapterSet, members: Sequence[str]) -> Path:
    """Where the matrix of these members is, or would be, kept: named by the bytes of their files."""
    return (
        matrices_folder() / f"{digest([_FORMAT, *(adapters[name].digest for name in members)])[:32]}.safetensors"
    )


def keep_matrix(matrix: Matrix, file: Path) -> None:
    """Write a matrix, whole or not at all; raises `DataError` where that cannot be done."""
    about = {
        "format": _FORMAT,
        "digests": list(matrix.digests),
        "ks": list(matrix.ks),
        "places": [list(asdict(place).values()) for place in matrix.places],
    }
    arrays = {name: np.ascontiguousarray(getattr(matrix, name)) for name in _ARRAYS}
    keep_arrays(file, "the comparison", about, arrays)


def kept_matrix(adapters: AdapterSet, members: Sequence[str]) -> Matrix | None:
    """The matrix of these members from an earlier comparison; None without one, or where its file is damaged."""
    try:
        about, arrays = kept_arrays(matrix_file(adapters, members))
        found = _matrix(about, arrays, tuple(adapters[name].digest for name in members))
    except (ValueError, KeyError, TypeError):
        return None
    return replace(found, members=tuple(members))


def _matrix(about: dict[str, Any], arrays: dict[str, ndarray], digests: tuple[str, ...]) -> Matrix:
    """Raises `ValueError` or `TypeError` where the parts do not fit together."""
    places = tuple(
        Place(int(layer), str(family), int(out), int(into)) for layer, family, out, into in about["places"]
    )
    ks = tuple(int(k) for k in about["ks"])
    n, p = len(digests), len(places)
    shapes = {
        "counts": (p, len(ks), n, n),
        "overlaps": (2, p, len(ks), n, n),
        "principals": (2, p, n, n),
        "squares": (p, n),
    }
    kinds = {"counts": np.int32, "overlaps": np.float32, "principals": np.float32}
    for name in _ARRAYS:
        array = arrays[name]
        if array.shape != shapes.get(name, (p, n, n)) or array.dtype != kinds.get(name, np.float64):
            raise ValueError(f"{name} is {array.dtype} of {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds what is no number")
    if (arrays["counts"] < 0).any():
        raise ValueError("counts are negative")
    if about["format"] != _FORMAT or tuple(about["digests"]) != digests or not ks or ks[0] != 1 or not p:
        raise ValueError("it is of other adapters")
    return Matrix(digests, digests, places, ks, **{name: arrays[name] for name in _ARRAYS})
