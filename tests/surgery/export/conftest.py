"""Adapters opened, and their entries on disk."""

import numpy as np

from surgery.edits import Edit, make_edit
from surgery.policies import RandomIndex

DTYPES = ["float64", "float32", "float16", "bfloat16"]
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def update(factors) -> np.ndarray:
    """ΔW as the formula has it, in float64."""
    return factors.scaling * (factors.B.astype(np.float64) @ factors.A.astype(np.float64))


def random_edit(spectra, scope="residual", energy="l1", **gates) -> Edit:
    return make_edit(spectra, RandomIndex(**{"amp": 2.0, "sup": 0.25, **gates}), scope=scope, energy=energy)
